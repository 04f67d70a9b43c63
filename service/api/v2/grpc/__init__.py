"""The Open Inference Protocol over gRPC, as Triton and KServe speak it; needs the extra `grpc`."""
