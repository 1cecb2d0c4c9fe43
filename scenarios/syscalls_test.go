package scenarios

import (
	"errors"
	"strings"
	"testing"
)

// Rules for system calls, and sweeps over operations, belong to lane syscalls and
// are checked with each value of a sweep.
func TestCheckSyscalls(t *testing.T) {
	const expect = "\nexpect: [{outcome: recovered}]"
	for _, c := range []struct{ lane, steps, want string }{
		{"process", "{start: {syscalls: ['write:eio']}}", "needs lane syscalls"},
		{"syscalls", "{start: {syscalls: ['writ:eio']}}", "unknown operation"},
		{"syscalls", "{start: {syscalls: ['rename:flip(1)']}}", "flip cannot happen to rename"},
		{"syscalls", "{sweep: {var: n, over: ['1', x], steps: [{start: {syscalls: ['write:nth=$n:eio']}}]}}", "(with n=x)"},
		{"syscalls", "{sweep: {var: n, op: [write, wipe], until: unfired, limit: 3, steps: [{start: {syscalls: ['$op:nth=$n:eio']}}]}}", `op "wipe"`},
		{"syscalls", "{sweep: {var: n, op: [write, rename], until: unfired, limit: 3, steps: [{start: {syscalls: ['$op:nth=$n:short(1)']}}]}}", "short cannot happen to rename"},
		{"syscalls", "{sweep: {var: n, op: [write], over: ['1'], steps: [{start: {}}]}}", "op goes with until"},
		{"syscalls", "{sweep: {var: op, op: [write], until: unfired, limit: 3, steps: [{start: {}}]}}", `var "op" is that of op`},
		{"process", "{sweep: {var: n, op: [write], until: unfired, limit: 3, steps: [{start: {}}]}}", "op needs lane syscalls"},
		{"syscalls", "{sweep: {var: n, op: [write, fsync, rename], until: unfired, limit: 9000, steps: [{start: {}}]}}", "more than 10000 passes"},
		{"syscalls", "{start: {syscalls: ['$op:eio']}}", "$op"},
	} {
		text := "id: x\ntitle: t\nlane: " + c.lane + "\nsteps: [" + c.steps + "]" + expect
		_, err := Load([]byte(text), "x.yaml")
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s\n: error %v, want %q", text, err, c.want)
		}
	}
	good := "id: x\ntitle: t\nlane: syscalls\nsteps: [{sweep: {var: n, op: [write, rename], until: unfired, limit: 3, steps: [{start: {syscalls: ['$op:path=$KV/tmp/*:nth=$n:eio']}}]}}]" + expect
	if _, err := Load([]byte(good), "x.yaml"); err != nil {
		t.Errorf("%s\n: %v", good, err)
	}
}
