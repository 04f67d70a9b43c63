#!/bin/sh
# What the train image runs: trains on DATASET (with further options of `addnorm train`), then exports the run to
# /models/$NAME/$VERSION. Stopped half-way, it goes on where it was.
set -eu
case ${1-} in
  "" | -*) echo "Name a data set first: clinc150, digits, or /data/FILE.csv." >&2; exit 2 ;;
esac
if [ -e "/models/$NAME/$VERSION" ]; then
  echo "/models/$NAME/$VERSION exists already: choose another NAME or VERSION." >&2
  exit 2
fi
python -m addnorm train "$@" --data /data --out "/runs/$NAME-$VERSION"
python -m addnorm export "/runs/$NAME-$VERSION" --name "$NAME" --version "$VERSION" --models /models --data /data
echo "Serve it: ADDNORM_MODEL=/models/$NAME/$VERSION docker compose up, or all with ADDNORM_MODELS=/models"
