package tokenizer

// The control tokens of the DeepSeek V4 prompt format. The bars are U+FF5C, the
// low blocks U+2581. Ids differ between models: look them up with ID.
const (
	BOSToken       = "<｜begin▁of▁sentence｜>"
	EOSToken       = "<｜end▁of▁sentence｜>" // also ends every assistant turn
	UserToken      = "<｜User｜>"
	AssistantToken = "<｜Assistant｜>"
	ThinkToken     = "<think>"
	EndThinkToken  = "</think>"
	DSMLToken      = "｜DSML｜" // inside tags, so </｜DSML｜x> starts with the ordinary token </
)

// formatBar marks the tokens whose text is literal even in files that do not
// give token types.
const formatBar = "｜"

// isFormatToken reports whether the prompt format gives this string a meaning, so
// that it is a control token whatever type the file declares: converters disagree
// between control and user-defined for the think markers.
func isFormatToken(s string) bool {
	switch s {
	case BOSToken, EOSToken, UserToken, AssistantToken, ThinkToken, EndThinkToken, DSMLToken:
		return true
	}
	return false
}
