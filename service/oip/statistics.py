"""The statistics extension: what was asked of each model, and where the time went."""

from service.engine import Engine
from service.inference_counts import BatchCounts, InferenceCounts, Inferences
from service.oip.schemas import BatchStatistics, Duration, InferenceStatistics, ModelStatistics

NOTHING = Duration(count=0, ns=0)  # there is no cache of answers


def model_statistics(engine: Engine, inferences: Inferences) -> ModelStatistics:
    """What all workers answered with the artifact that an engine runs."""
    counts = inferences.get(engine.manifest.digest, InferenceCounts())
    return ModelStatistics(
        name=engine.manifest.name,
        version=engine.manifest.version,
        last_inference=counts.last_ms,
        inference_count=counts.rows,
        execution_count=counts.executions,
        inference_stats=of_requests(counts),
        response_stats={},
        batch_stats=[of_batches(rows, batch) for rows, batch in sorted(counts.batches.items())],
        memory_usage=[],
    )


def of_requests(counts: InferenceCounts) -> InferenceStatistics:
    answered = counts.requests
    return InferenceStatistics(
        success=Duration(count=answered, ns=counts.total_ns),
        fail=Duration(count=counts.failed, ns=counts.failed_ns),
        queue=Duration(count=answered, ns=counts.queue_ns),
        compute_input=Duration(count=answered, ns=counts.input_ns),
        compute_infer=Duration(count=answered, ns=counts.infer_ns),
        compute_output=Duration(count=answered, ns=counts.output_ns),
        cache_hit=NOTHING,
        cache_miss=NOTHING,
    )


def of_batches(rows: int, batch: BatchCounts) -> BatchStatistics:
    return BatchStatistics(
        batch_size=rows,
        compute_input=Duration(count=batch.executions, ns=batch.pack_ns),
        compute_infer=Duration(count=batch.executions, ns=batch.infer_ns),
        compute_output=Duration(count=batch.executions, ns=batch.record_ns),
    )
