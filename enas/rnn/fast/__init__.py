"""The fast path of recurrent cells, equal to `enas.rnn.reference`."""
