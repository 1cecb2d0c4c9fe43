package segment

import "fmt"

// verifyBytes is the piece in which Verify reads. It bounds the memory of a
// check; a multiple of 1, 2 and 3, so that no token is cut.
const verifyBytes = 3 * (64 << 10)

// Verify reads every byte of a file whose Info was checked: checksums, the zeros
// between sections, token ids. It returns the id that the text and the
// header hash to, for the caller to compare with the file's name. With l nil,
// token ids are not compared with a vocabulary.
func (r Reader) Verify(in *Info, l *Layout) (ID, error) {
	var id ID
	buf := make([]byte, min(r.Size, verifyBytes))
	vocab := 0
	if l != nil {
		vocab = l.Vocab
	}
	if err := r.verifyZeros(buf, int64(HeaderBytes+EntryBytes*len(in.Table)), in.Table[0].Offset); err != nil {
		return id, err
	}
	h := newIDHash(in.Identity, in.Parent, in.From)
	for _, s := range in.Table {
		var sum uint32
		for at := int64(0); at < s.Bytes; {
			b := buf[:min(int64(len(buf)), s.Bytes-at)]
			if err := r.readAt(b, s.Offset+at); err != nil {
				return id, err
			}
			at += int64(len(b))
			sum = AddChecksum(sum, b)
			switch s.Kind {
			case Text:
				h.Write(b)
			case Tokens:
				if err := checkTokens(b, vocab); err != nil {
					return id, err
				}
			}
		}
		if err := r.CheckSum(s, sum); err != nil {
			return id, err
		}
		if s.Kind == Text {
			id = ID(h.Sum(nil)[:len(id)])
		}
		end := s.Offset + s.Bytes
		if err := r.verifyZeros(buf, end, align(end)); err != nil {
			return id, err
		}
	}
	return id, nil
}

// checkTokens refuses ids outside of the vocabulary; 0 means that it is unknown.
func checkTokens(b []byte, vocab int) error {
	if vocab == 0 {
		return nil
	}
	width := tokenBytes(vocab)
	for ; len(b) >= width; b = b[width:] {
		if v := tokenAt(b, width); v >= vocab {
			return fmt.Errorf("%w: token id %d, vocabulary of %d", ErrCorrupt, v, vocab)
		}
	}
	return nil
}

func (r Reader) verifyZeros(buf []byte, from, to int64) error {
	if from >= to {
		return nil
	}
	b := buf[:to-from] // less than Align
	if err := r.readAt(b, from); err != nil {
		return err
	}
	if !allZero(b) && !r.NoChecksum {
		return fmt.Errorf("%w: filling from %d to %d is not zero", ErrCorrupt, from, to)
	}
	return nil
}
