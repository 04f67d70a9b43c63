"""An adopted encoder served, beside other servers of the same model and beside no server."""
