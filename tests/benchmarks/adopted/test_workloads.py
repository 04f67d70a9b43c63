from benchmarks.adopted.in_process import BATCH, SMALL_BATCH, make_batches
from benchmarks.adopted.no_server import SINGLE, SMALL, SORTED
from benchmarks.adopted.workloads import LENGTHS, MIX, SHORT, join_questions, make_workload

QUESTIONS = ["what is my balance", "how do i pay it", "book a flight to paris"]


def count_tokens(text: str) -> int:
    """A token for every letter but one in three, and two special ones."""
    return sum(1 + len(word) // 3 for word in text.split()) + 2


def test_joined_questions_are_as_long_as_asked_and_hardly_shorter():
    lengths = [8, 40, 128, 512]
    texts = list(join_questions(QUESTIONS, lengths, count_tokens))
    for length, text in zip(lengths, texts, strict=True):
        assert length - 4 <= count_tokens(text) <= length


def test_a_workload_is_the_same_at_every_call():
    assert make_workload(SHORT, QUESTIONS, count_tokens) == make_workload(SHORT, QUESTIONS, count_tokens)
    texts = make_workload(MIX, QUESTIONS, count_tokens)
    assert texts == make_workload(MIX, QUESTIONS, count_tokens)
    assert all(count_tokens(text) <= LENGTHS[MIX][1] for text in texts)


def test_batches_hold_every_text_once_sorted_and_no_larger_than_allowed():
    tokens = [(7 * number) % 300 + 1 for number in range(100)]
    texts = [str(number) for number in range(100)]
    assert make_batches(texts, tokens, SINGLE) == [[text] for text in texts]
    for variant in (SORTED, SMALL):
        batches = make_batches(texts, tokens, variant)
        order = [tokens[int(text)] for batch in batches for text in batch]
        assert order == sorted(tokens) and sorted(int(text) for batch in batches for text in batch) == list(range(100))
    assert all(len(batch) <= BATCH for batch in make_batches(texts, tokens, SORTED))
    sizes = [[tokens[int(text)] for text in batch] for batch in make_batches(texts, tokens, SMALL)]
    assert all(sum(size) <= SMALL_BATCH for size in sizes)
