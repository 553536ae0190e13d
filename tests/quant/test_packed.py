import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reliabit.quant.packed import pack, packed_width, unpack


def bit_stream(codes: list[int], bits: int, size: int) -> list[int]:
    """The codes as one whole number, lowest first: an independent statement of the layout."""
    number = sum(code << (bits * place) for place, code in enumerate(codes))
    return list(number.to_bytes(size, "little"))


@given(bits=st.integers(1, 8), rows=st.integers(1, 4), columns=st.integers(1, 70), seed=st.integers(0, 10_000))
def test_packing_is_a_dense_bit_stream_and_unpacking_undoes_it(bits, rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**bits, (rows, columns), dtype=torch.uint8, generator=generator)
    packed = pack(codes, bits)
    assert packed.tolist() == [bit_stream(row, bits, packed_width(columns, bits)) for row in codes.tolist()]
    assert torch.equal(unpack(packed, bits, columns), codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_take_exactly_their_bits(bits):
    assert 8 * pack(torch.zeros((3, 640), dtype=torch.uint8), bits).nbytes == 3 * 640 * bits


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_highest_codes_do_not_leak_into_their_neighbours(bits):
    codes = torch.full((2, 33), 2**bits - 1, dtype=torch.uint8)
    codes[:, ::2] = 0
    assert torch.equal(unpack(pack(codes, bits), bits, 33), codes)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_rows_of_whole_words_are_those_of_compressed_tensors(bits):
    helpers = pytest.importorskip("compressed_tensors.compressors.pack_quantized.helpers")
    codes = torch.randint(0, 2**bits, (5, 96), dtype=torch.uint8)
    theirs = helpers.pack_to_int32((codes.int() - 2 ** (bits - 1)).to(torch.int8), bits)
    assert torch.equal(pack(codes, bits).view(torch.int32), theirs)
