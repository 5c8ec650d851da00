"""Which GPUs an exporter reads: by its flag, or by what its Ollama sees."""

from __future__ import annotations

import pytest

from exporters.gpu.selection import Identity, Selection, choose, of_environment, parse

A, B = "GPU-aaaa-1", "GPU-bbbb-2"
ALIKE = [Identity(A, "RTX 3090"), Identity(B, "RTX 3090", ("MIG-cccc-3",))]
UNEQUAL = [Identity(A, "GTX 1080"), Identity(B, "RTX 3090")]
LOST = [None, Identity(B, "RTX 3090")]


def indices(selection: Selection, gpus=ALIKE) -> tuple[int, ...]:
    return choose(selection, len(gpus), lambda index: gpus[index]).indices


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("all", (0, 1), id="all"),
        pytest.param("1", (1,), id="index"),
        pytest.param("1,0", (0, 1), id="two indices"),
        pytest.param(B, (1,), id="UUID"),
        pytest.param("gpu-BBBB", (1,), id="beginning of a UUID, in any case"),
        pytest.param(f"0, {B}", (0, 1), id="both kinds"),
        pytest.param("MIG-cccc-3", (1,), id="instance of a card"),
    ],
)
def test_what_is_chosen(text, expected) -> None:
    """Indices are the driver's; what is named twice is read once."""
    assert indices(parse(text, "--gpus"), UNEQUAL if "MIG" not in text else ALIKE) == (
        expected
    )


@pytest.mark.parametrize("text", ["", "0,", "-1", "GPU-", "rtx3090", "0 1", "1.5"])
def test_a_wrong_choice_is_refused(text) -> None:
    """With the part that is wrong."""
    with pytest.raises(ValueError, match="must be all, or indices or UUIDs"):
        parse(text, "--gpus")


def test_what_is_not_there_is_said() -> None:
    """A card that has vanished from the list is no reason to read another."""
    chosen = choose(parse(f"7,{B}", "--gpus"), 1, lambda _index: ALIKE[0])
    assert chosen.indices == ()
    assert chosen.faults == (
        "--gpus: the driver lists no GPU 7",
        "--gpus: the driver lists no GPU gpu-bbbb-2",
    )


def test_a_card_that_does_not_answer_may_be_the_one_that_is_missing() -> None:
    """It is read, so that its silence counts; unless all that is wanted answers."""
    assert indices(parse(A, "--gpus"), LOST) == (0,)
    assert indices(parse(B, "--gpus"), LOST) == (1,)


def test_the_drivers_own_numbers_ask_no_card() -> None:
    """One that hangs must not hold up the choice of the other."""

    def asked(_index: int) -> None:
        raise AssertionError

    assert choose(parse("1", "--gpus"), 2, asked).indices == (1,)
    assert choose(parse("all", "--gpus"), 2, asked).indices == (0, 1)


@pytest.mark.parametrize(
    ("environment", "gpus", "expected"),
    [
        pytest.param({}, UNEQUAL, (0, 1), id="not set: all"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "1"}, ALIKE, (1,), id="index"),
        pytest.param({"CUDA_VISIBLE_DEVICES": B}, UNEQUAL, (1,), id="UUID"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "GPU-b"}, UNEQUAL, (1,), id="beginning"),
        pytest.param({"CUDA_VISIBLE_DEVICES": ""}, ALIKE, (), id="empty: none"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "-1"}, ALIKE, (), id="-1: none"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "1,-1,0"}, ALIKE, (1,), id="until -1"),
        pytest.param(
            {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
            UNEQUAL,
            (1,),
            id="index in the driver's order",
        ),
    ],
)
def test_what_an_ollama_sees(environment, gpus, expected) -> None:
    """As CUDA reads its environment."""
    assert indices(of_environment(environment, "it"), gpus) == expected


def test_an_index_of_unequal_cards_is_not_guessed() -> None:
    """CUDA counts from the fastest, which the driver does not: all, and a fault."""
    chosen = choose(
        of_environment({"CUDA_VISIBLE_DEVICES": "1"}, "it"), 2, lambda i: UNEQUAL[i]
    )
    assert chosen.indices == (0, 1)
    (fault,) = chosen.faults
    assert fault.startswith("it: CUDA counts unequal GPUs by their speed, so [1] ")
