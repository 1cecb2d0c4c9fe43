package fault

import "ds4/metal"

// Labels of the engine's command buffers that stand for a step. Every chunk of a
// prompt and every decoded token has one of each.
const (
	embedLabel = "^graph embed tokens$"
	stepLabel  = "^graph layer 0$"
)

// prompts are the phases that evaluate a prompt, the recovery's trial included.
const prompts = "prefill|canary"

// Point returns the rule that a named fault point of the harness stands for: it
// says where to fail. The caller adds triggers and what the failure is. Names
// are those of the points that device code executes; ok is false for any other.
func Point(name string) (r Rule, ok bool) {
	switch name {
	case "prefill.embed":
		return Rule{At: AtWait, Label: embedLabel, Phase: prompts}, true
	case "prefill.chunk":
		return Rule{At: AtWait, Label: stepLabel, Phase: prompts}, true
	case "decode.step":
		return Rule{At: AtWait, Label: stepLabel, Phase: "decode"}, true
	case "device.lost":
		return Rule{At: AtWait, Code: metal.CodeDeviceRemoved}, true
	case "device.alloc":
		return Rule{At: AtAlloc}, true
	}
	return Rule{}, false
}
