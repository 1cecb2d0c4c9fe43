package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"ds4/faults/root"
	"ds4/reports"
	"ds4/scenarios"
)

// lacksRoot says what this host does not allow of what a scenario of lane root
// needs, or "".
func (r *runner) lacksRoot(ctx context.Context, s *scenarios.Scenario) string {
	var why []string
	for _, a := range s.NeedsRoot() {
		err, known := r.root[a]
		if !known {
			err = root.Probe(ctx, a)
			r.root[a] = err
		}
		if err != nil {
			why = append(why, err.Error())
		}
	}
	return strings.Join(why, "; ")
}

// prepareDisk makes the disk whose power can be cut.
func (p *rep) prepareDisk(ctx context.Context) error {
	at := filepath.Join(p.dir, "disk")
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	d, err := root.NewDisk(ctx, at, p.s.Server.FileSystem(), int64(p.s.Server.Disk))
	if err != nil {
		return err
	}
	const name = "kv"
	p.host.disk, p.kv, p.kvArg = d, filepath.Join(d.Dir(), name), filepath.Join(at, name)
	return nil
}

// powerCut takes the disk's power away under the server, ends it as the machine
// would end, and gives the power back.
func (p *rep) powerCut(ctx context.Context) error {
	srv := p.server.Load()
	if err := p.host.disk.Cut(); err != nil {
		return inconclusive("%w", err)
	}
	p.event(reports.EventFault, "power cut of "+string(p.s.Server.FileSystem()))
	if srv != nil {
		p.signalled = time.Now()
		if err := srv.Signal(syscall.SIGKILL); err != nil {
			return err
		}
		kctx, cancel := context.WithTimeout(ctx, killTimeout)
		defer cancel()
		if err := p.waitExit(kctx); err != nil {
			return err
		}
	}
	if err := p.host.disk.Restore(); err != nil {
		return inconclusive("%w", err)
	}
	return nil
}

// capMemory puts the running server into a group of its own and bounds it. Only
// what it takes from now on counts.
func (p *rep) capMemory(m *scenarios.MemoryCap) error {
	srv := p.server.Load()
	if srv == nil {
		return errors.New("no server is running")
	}
	if p.host.group != nil {
		return inconclusive("the memory of a server was bounded before in this scenario")
	}
	g, err := root.NewGroup()
	if err != nil {
		return inconclusive("%w", err)
	}
	p.host.group = g
	if err := g.Add(srv.Current().PID()); err != nil {
		return inconclusive("%w", err)
	}
	used, err := g.Usage()
	if err == nil {
		err = g.Limit(used + int64(m.More))
	}
	if err != nil {
		return inconclusive("%w", err)
	}
	p.event(reports.EventFault, fmt.Sprintf("%d bytes of memory more", m.More))
	return nil
}

// checkMemory makes sure that a bound of memory was felt: it is a fault like any
// other.
func (p *rep) checkMemory() error {
	if p.host.group == nil {
		return nil
	}
	n, err := p.host.group.Kills()
	if err != nil {
		return inconclusive("%w", err)
	}
	if n == 0 {
		return inconclusive("the server's memory was bounded, and the kernel did not kill it")
	}
	return nil
}

// cleanUpRoot gives disk and group up. What is on the disk is kept like the rest,
// if anything is.
func (p *rep) cleanUpRoot() {
	if p.host.group != nil {
		p.host.group.Close()
		p.host.group = nil
	}
	if p.host.disk == nil {
		return
	}
	if p.r.opt.KeepWork || p.r.opt.KeepFailed && p.failed() {
		if err := copyDir(p.kv, filepath.Join(p.dir, "kv")); err != nil && !errors.Is(err, os.ErrNotExist) {
			p.warn("cache directory not kept: %v", err)
		}
	}
	p.host.disk.Close()
	p.host.disk = nil
}
