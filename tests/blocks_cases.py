"""What several tests of blocks share."""

from hypothesis import strategies as st

channels = st.integers(1, 9)
