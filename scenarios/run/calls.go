package run

import (
	"context"
	"strings"

	"ds4/faults/proc"
	"ds4/faults/syscalls"
)

// Lane syscalls: the server's system calls fail by rules.

// superviseCalls has a server started under rules for its system calls, if there
// are any.
func (p *rep) superviseCalls(cfg *proc.Config, texts []string) error {
	if len(texts) == 0 {
		return nil
	}
	rules, err := callRules(texts)
	if err != nil {
		return err
	}
	p.calls, err = syscalls.New(syscalls.Config{Rules: rules, Dir: p.kv, Log: p.log.Add})
	if err != nil {
		return err
	}
	cfg.Path, cfg.Args = p.calls.Command(cfg.Path, cfg.Args)
	return nil
}

// endCalls ends the supervision of a server that has ended.
func (p *rep) endCalls() {
	if p.calls != nil {
		p.calls.Close()
		p.calls = nil
	}
}

func callRules(texts []string) ([]syscalls.Rule, error) {
	var list []syscalls.Rule
	for _, text := range texts {
		r, err := syscalls.ParseRule(text)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// lacksCalls says what this host does not allow of lane syscalls, or "".
func (r *runner) lacksCalls(ctx context.Context) string {
	var why []string
	for _, a := range syscalls.Abilities() {
		err, known := r.calls[a]
		if !known {
			err = syscalls.Probe(ctx, a)
			r.calls[a] = err
		}
		if err != nil {
			why = append(why, err.Error())
		}
	}
	return strings.Join(why, "; ")
}
