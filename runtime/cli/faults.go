package cli

import (
	"fmt"
	"strings"

	"ds4/metal"
	"ds4/metal/fault"
	"ds4/runtime/config"
	"ds4/runtime/engine"
	"ds4/runtime/failpoint"
)

// logFunc writes one log line.
type logFunc func(format string, args ...any)

// Phases of metal.Scope that fault rules name. A canary is a small prefill: what
// breaks prefill breaks it too, or the device would look cured.
const (
	phasePrefill = "prefill|canary"
	phaseDecode  = "decode"
)

// pointClock is the clock of store, scheduler and server.
var pointClock = failpoint.New("clock.jump")

// armFaults arms the hooks that the command line asks for. Rules of the program's
// own points go to failpoint; those of device points, and DS4_METAL_FAULT, make a
// plan that wraps the device. It returns dev itself when there is nothing to do.
func armFaults(f *config.Faults, environ []string, dev metal.Device, log logFunc) (metal.Device, error) {
	if err := f.Allow(environ); err != nil {
		return nil, &usageError{err: err}
	}
	if len(f.Unsafe) > 0 {
		log("WARNING: safeguards are switched off (%s): this process loses data and answers on purpose", strings.Join(f.Unsafe, ","))
	}
	own, device, err := splitRules(f.Rules)
	if err != nil {
		return nil, &usageError{err: err}
	}
	extra, err := fault.Parse(f.MetalPlan)
	if err != nil {
		return nil, &usageError{err: fmt.Errorf("environment %s: %w", config.MetalFaultEnv, err)}
	}
	device = append(device, extra...)
	if len(own) > 0 {
		if err := failpoint.Arm(own, log); err != nil {
			return nil, &usageError{err: fmt.Errorf("flag --fault: %w", err)}
		}
	}
	if len(device) == 0 {
		return dev, nil
	}
	plan, err := fault.NewPlan(device, log)
	if err != nil {
		return nil, &usageError{err: fmt.Errorf("flag --fault: %w", err)}
	}
	return fault.Wrap(dev, plan), nil
}

// splitRules separates the rules that metal/fault executes and translates them.
func splitRules(rules []failpoint.Rule) (own []failpoint.Rule, device []fault.Rule, err error) {
	for _, r := range rules {
		info, _ := failpoint.Lookup(r.Point)
		if !info.Device {
			own = append(own, r)
			continue
		}
		d, err := deviceRule(r)
		if err != nil {
			return nil, nil, fmt.Errorf("flag --fault: %s: %w", r, err)
		}
		device = append(device, d)
	}
	return own, device, nil
}

// deviceRule translates a rule of a device point. Command buffers fail when they
// are waited for, as a GPU reports it.
func deviceRule(r failpoint.Rule) (fault.Rule, error) {
	d := fault.Rule{
		At: fault.AtWait, N: r.Nth, Every: r.Every, Times: r.Times, Prob: r.Prob, Seed: r.Seed,
		Origin: r.String(),
	}
	// One command buffer per hit, so that counts are those of chunks and steps: the
	// first one of a chunk for its embedding; the last one for a chunk or a step as
	// a whole, when its rows are written already and only their commit is missing.
	switch r.Point {
	case "prefill.embed":
		d.Phase, d.Label, d.Chunk = phasePrefill, exactly(engine.LabelEmbed), r.N
	case "prefill.chunk":
		d.Phase, d.Label, d.Chunk = phasePrefill, exactly(engine.LabelHead), r.N
	case "decode.step":
		d.Phase, d.Label = phaseDecode, exactly(engine.LabelHead)
	case "device.lost":
		d.Code = metal.CodeDeviceRemoved
	case "device.alloc":
		d.At = fault.AtAlloc
	default:
		return d, fmt.Errorf("device point without a translation")
	}
	if r.N > 0 && d.Chunk == 0 {
		return d, fmt.Errorf("n=K counts the chunks of a prompt; use nth=K here")
	}
	if r.After > 0 {
		return d, fmt.Errorf("after=BYTES applies to files")
	}
	matchScope(&d, r.Match)
	if err := translateAction(&d, r.Action); err != nil {
		return d, err
	}
	return d, d.Validate()
}

// exactly is the regular expression for one label.
func exactly(label string) string { return "^" + label + "$" }

// matchScope translates match=...
func matchScope(d *fault.Rule, match string) {
	word, prefix, hasPrefix := strings.Cut(strings.TrimSuffix(match, ")"), "(")
	if !hasPrefix {
		prefix = "*"
	}
	switch word {
	case "disk", "memory", "cold":
		d.Source = word
	case "entry":
		d.Entry = prefix
	case "range":
		d.Range = prefix
	}
}

// translateAction says what happens when the rule fires.
func translateAction(d *fault.Rule, a failpoint.Action) error {
	switch a.Kind {
	case failpoint.KindErr:
		if d.Text = a.Text; a.Text != "" {
			d.Code = metal.CodeInternal
		}
	case failpoint.KindMetal:
		return translateMetal(d, a)
	case failpoint.KindDelay:
		d.Pass, d.Delay = true, a.Delay
	case failpoint.KindHang:
		if a.Delay > 0 {
			d.Pass, d.Delay = true, a.Delay
		} else {
			d.Hang = true
		}
	case failpoint.KindKill9:
		d.Kill = true
	case failpoint.KindPanic:
		d.Panic = true
	default:
		return fmt.Errorf("%s is no failure of a device; use err, metal, delay, hang, kill9 or panic", a.Kind)
	}
	return nil
}

func translateMetal(d *fault.Rule, a failpoint.Action) error {
	code, err := a.CodeNumber()
	if err != nil {
		return err
	}
	if d.Code = metal.Code(code); code == 0 {
		d.Code = fault.CodeZero
	}
	d.Text = a.Text
	// The rest is spelled alike in both languages.
	spec := "at=" + d.At.String()
	if a.Effect != "" {
		spec += ",effect=" + a.Effect
	}
	if a.Sticky != "" {
		spec += ",sticky=" + a.Sticky
	}
	parsed, err := fault.Parse(spec)
	if err != nil {
		return err
	}
	d.Effect, d.Sticky = parsed[0].Effect, parsed[0].Sticky
	return nil
}
