package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"ds4/faults/disk"
	"ds4/faults/root"
	"ds4/reports"
	"ds4/scenarios"
)

// host is what a repetition of lane limits has changed about the machine, for
// its server only.
type host struct {
	volume    *disk.Volume // nil: the cache directory is on the machine's disk
	powerless bool         // file modes count for the server, whoever we are
	closed    bool         // the cache directory is not as it was
	disk      *root.Disk   // lane root: with a file system whose power can be cut
	group     *root.Group  // lane root: of the running server
}

// lacks says what this host does not allow of what a scenario needs, or "".
func (r *runner) lacks(ctx context.Context, s *scenarios.Scenario) string {
	switch s.Lane {
	case scenarios.LaneProcess:
		return ""
	case scenarios.LaneSyscalls:
		return r.lacksCalls(ctx)
	case scenarios.LaneLimits:
	case scenarios.LaneRoot:
		return r.lacksRoot(ctx, s)
	default:
		return fmt.Sprintf("lane %s is not available", s.Lane)
	}
	var why []string
	for _, a := range s.Needs() {
		err, known := r.host[a]
		if !known {
			err = disk.Probe(ctx, a)
			r.host[a] = err
		}
		if err != nil {
			why = append(why, err.Error())
		}
	}
	return strings.Join(why, "; ")
}

// prepareHost makes the disk that the scenario asks for.
func (p *rep) prepareHost(ctx context.Context) error {
	p.host.powerless = slices.Contains(p.s.Needs(), disk.Modes)
	if p.s.Server.Disk == 0 {
		return nil
	}
	if p.s.Lane == scenarios.LaneRoot {
		return p.prepareDisk(ctx)
	}
	at := filepath.Join(p.dir, "disk")
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	v, err := disk.NewVolume(ctx, at, int64(p.s.Server.Disk))
	if err != nil {
		return err
	}
	// A folder of its own: the root of a file system cannot be removed.
	const name = "kv"
	p.host.volume, p.kv, p.kvArg = v, filepath.Join(v.Dir(), name), filepath.Join(at, name)
	return nil
}

// attr makes the server see its disk, and takes privileges away that would make
// file modes meaningless.
func (h *host) attr(a *syscall.SysProcAttr) {
	switch {
	case h.disk != nil:
		h.disk.Enter(a)
	case h.volume != nil:
		h.volume.Enter(a)
	case h.powerless:
		disk.Powerless(a)
	}
}

// healHost undoes what would keep a healthy server from working.
func (p *rep) healHost() error {
	var err error
	if p.host.closed {
		err = p.access(&scenarios.Access{Owner: scenarios.OwnerSelf})
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if p.host.volume != nil {
		err = errors.Join(err, p.host.volume.Free())
	}
	return err
}

// cleanUpHost gives the disk up. What is on it is kept like the rest, if
// anything is.
func (p *rep) cleanUpHost() {
	p.cleanUpRoot()
	if p.host.volume == nil {
		return
	}
	if p.r.opt.KeepWork || p.r.opt.KeepFailed {
		if err := copyDir(p.kv, filepath.Join(p.dir, "kv")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			p.mu.Lock()
			p.res.Warnings = append(p.res.Warnings, "cache directory not kept: "+err.Error())
			p.mu.Unlock()
		}
	}
	p.host.volume.Close()
	p.host.volume = nil
}

// hostStep executes a step that changes the host. What goes wrong says nothing
// about the server.
func (p *rep) hostStep(st *scenarios.Step) error {
	var err error
	var what string
	switch {
	case st.FillDisk != nil:
		what = fmt.Sprintf("disk full but for %d bytes", st.FillDisk.Leave)
		err = p.host.volume.Fill(int64(st.FillDisk.Leave))
	case st.FreeDisk != nil:
		what = "disk freed"
		err = p.host.volume.Free()
	case st.Limit != nil:
		what = fmt.Sprintf("limits fsize=%s nofile=%s", st.Limit.FSize, st.Limit.NoFile)
		err = p.limit(st.Limit)
	case st.Access != nil:
		what = fmt.Sprintf("access mode=%s owner=%s", st.Access.Mode, st.Access.Owner)
		err = p.access(st.Access)
	case st.RemoveDir != nil && st.RemoveDir.Move:
		what = "cache directory moved"
		_, err = disk.MoveDir(p.kv, "kv-moved")
	case st.RemoveDir != nil:
		what = "cache directory removed"
		err = disk.RemoveDir(p.kv)
	}
	if err != nil {
		return inconclusive("%w", err)
	}
	p.event(reports.EventFault, what)
	return nil
}

// limit changes limits of the running process.
func (p *rep) limit(l *scenarios.Limit) error {
	srv := p.server.Load()
	if srv == nil {
		return errors.New("no server is running")
	}
	pid := srv.Current().PID()
	fsize, nofile, err := l.Values()
	if err == nil && fsize != nil {
		err = disk.LimitFileSize(pid, *fsize)
	}
	if err == nil && nofile != nil {
		err = disk.LimitFiles(pid, int(*nofile))
	}
	return err
}

// access changes modes or owner of the cache directory.
func (p *rep) access(a *scenarios.Access) error {
	mode, ok, err := a.Permissions()
	switch {
	case err != nil:
		return err
	case ok:
		p.host.closed = true
		return disk.ChmodDirs(p.kv, fs.FileMode(mode))
	case a.Owner == scenarios.OwnerOther:
		p.host.closed = true
		return disk.GiveAway(p.kv)
	}
	p.host.closed = false
	return errors.Join(disk.TakeBack(p.kv), disk.ChmodDirs(p.kv, 0o700))
}
