package tokenizer

// EncodeWithControls returns the ids of text in which control tokens are written
// as their strings. Only for text whose author may write control tokens, such as
// a rendered prompt on a command line: never for what a user or a tool said.
func (t *Tokenizer) EncodeWithControls(text string) []int32 {
	if text == "" {
		return nil
	}
	var e encoder
	dst := make([]int32, 0, len(text)/3+1)
	start := 0
	for i := 0; i < len(text); {
		if len(t.controls[text[i]]) == 0 {
			i++
			continue
		}
		id := t.controlAt(text[i:])
		if id < 0 {
			i++
			continue
		}
		dst = e.encode(t, dst, text[start:i])
		dst = append(dst, id)
		i += len(t.tokens[id])
		start = i
	}
	return e.encode(t, dst, text[start:])
}
