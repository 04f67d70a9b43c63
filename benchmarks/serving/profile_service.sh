#!/bin/sh
# Where the service's time goes under load, sampled by py-spy: a flame graph in .bench/profile.svg, and a table.
#   sh benchmarks/serving/profile_service.sh PYTHON DATA [CLIENTS] [SECONDS]        `make profile` installs what it needs
set -eu
python=$1 data=$2 clients=${3:-32} seconds=${4:-10} port=18190 work=.bench
command -v wrk > /dev/null || { echo "wrk is missing, which generates the load: install the package wrk."; exit 1; }
"$python" -m benchmarks.serving.artifacts "$data" $work/profile.jsonl
ADDNORM_DEVICE=cpu taskset -c 0 "$python" -m addnorm serve --model $work/models/serving-fp32/1 --port $port \
  > $work/profile.log 2>&1 &
service=$!
trap 'kill $service' EXIT
until curl --silent --fail --output $work/ready.json http://127.0.0.1:$port/health/ready; do
  kill -0 $service || { cat $work/profile.log; exit 1; }
  sleep 0.1
done
taskset -c 1 wrk -t1 -c"$clients" -d$((2 * seconds + 3))s -s benchmarks/serving/wrk.lua http://127.0.0.1:$port/predict \
  -- $work/profile.jsonl > $work/profile-load.log &
load=$!
sleep 1
for format in flamegraph raw; do
  taskset -c 1 $work/pyspy/bin/py-spy record --pid $service --threads --rate 200 --duration "$seconds" \
    --format $format --output $work/profile.$format > $work/pyspy.log 2>&1 || { cat $work/pyspy.log; exit 1; }
done
wait $load
mv $work/profile.flamegraph $work/profile.svg
tail -1 $work/profile-load.log
"$python" -m benchmarks.serving.profile_table $work/profile.raw
