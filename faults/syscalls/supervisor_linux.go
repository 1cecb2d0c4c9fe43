package syscalls

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ds4/runtime/failpoint"
)

// handshakeTimeout bounds how long a launcher may take to hand its listener over.
const handshakeTimeout = 30 * time.Second

// Config says what a supervisor does.
type Config struct {
	Rules []Rule
	// Dir, if not empty, restricts the rules, and what is observed, to files below
	// this folder.
	Dir string
	// Log takes lines without an end: which rule was armed and has fired, and what
	// would go unseen. It is called before anything happens.
	Log func(line string)
	// Observe, if not nil, is shown every call below Dir that changes files, one
	// after the other, before the call is made. It must not keep the caller long.
	Observe func(*Call)
}

// Supervisor watches the system calls of the programs that were started through
// it, one after the other or at the same time. Its rules count over all of them.
type Supervisor struct {
	cfg   Config
	rules []*armed
	sock  *net.UnixListener
	wake  [2]int        // a pipe: closing its writing end ends every wait
	done  chan struct{} // closed by Close
	wg    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	said   map[string]bool // what was reported as unseen
}

type armed struct {
	Rule
	*failpoint.Counter
}

// New makes a supervisor. The caller must Close it, after the end of what was
// started through it.
func New(cfg Config) (*Supervisor, error) {
	if cfg.Log == nil {
		return nil, errors.New("syscalls: supervisor without a log")
	}
	if !hasMain.Load() {
		return nil, ErrNoMain
	}
	if cfg.Dir != "" {
		dir, err := filepath.Abs(cfg.Dir)
		if err != nil {
			return nil, fmt.Errorf("syscalls: %w", err)
		}
		cfg.Dir = resolve(dir)
	}
	s := &Supervisor{cfg: cfg, done: make(chan struct{}), said: map[string]bool{}}
	for _, r := range cfg.Rules {
		s.rules = append(s.rules, &armed{r, failpoint.NewCounter(r.Trigger)})
	}
	if err := unix.Pipe2(s.wake[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("syscalls: supervisor: %w", err)
	}
	var err error
	// An abstract name leaves nothing behind; it cannot be guessed, and who
	// connects is looked at.
	name := fmt.Sprintf("@ds4bench-%d-%s", os.Getpid(), rand.Text())
	if s.sock, err = net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"}); err != nil {
		s.closePipe()
		return nil, fmt.Errorf("syscalls: supervisor: %w", err)
	}
	s.wg.Go(s.accept)
	return s, nil
}

func (s *Supervisor) closePipe() {
	unix.Close(s.wake[0])
	unix.Close(s.wake[1])
}

// Command returns the command line that starts a program under the supervisor. It
// may be used several times.
func (s *Supervisor) Command(path string, args []string) (self string, withArgs []string) {
	return selfPath, command(s.sock.Addr().String(), s.ops(), path, args)
}

// selfPath is this program, whatever happens to its file.
const selfPath = "/proc/self/exe"

func (s *Supervisor) ops() []string {
	ops := opsOf(s.cfg.Rules)
	if s.cfg.Observe == nil {
		return ops
	}
	for _, op := range Ops() {
		if (&Call{Op: op}).changes() && !slices.Contains(ops, op) {
			ops = append(ops, op)
		}
	}
	return ops
}

// Status reports on one rule.
type Status struct {
	Rule  Rule
	Seen  int // calls that it is about
	Fired int
}

// Status reports on the rules, in their order.
func (s *Supervisor) Status() []Status {
	list := []Status{}
	for _, r := range s.rules {
		hits, fired := r.Counter.Count()
		list = append(list, Status{r.Rule, hits, fired})
	}
	return list
}

// Unseen lists the files that targets have mapped to store to them, and other
// things that the supervisor cannot watch.
func (s *Supervisor) Unseen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []string{}
	for what := range s.said {
		list = append(list, what)
	}
	slices.Sort(list)
	return list
}

// Close ends the supervision. Watched calls of targets that still run fail with
// ENOSYS from now on.
func (s *Supervisor) Close() {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.mu.Unlock()
	if closed {
		return
	}
	close(s.done)
	unix.Close(s.wake[1])
	s.sock.Close()
	s.wg.Wait()
	unix.Close(s.wake[0])
}

// accept waits for launchers.
func (s *Supervisor) accept() {
	for {
		conn, err := s.sock.AcceptUnix()
		if err != nil {
			return // closed
		}
		s.wg.Go(func() {
			defer conn.Close()
			if err := s.greet(conn); err != nil {
				s.cfg.Log(err.Error())
			}
		})
	}
}

// greet takes a listener from a launcher and serves it until its processes have
// ended.
func (s *Supervisor) greet(conn *net.UnixConn) error {
	if err := sameUser(conn); err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
	stop := make(chan struct{})
	go func() { // the end of the supervisor ends the waiting
		select {
		case <-s.done:
			_ = conn.SetDeadline(time.Now())
		case <-stop:
		}
	}()
	defer close(stop)
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return fmt.Errorf("syscalls: no listener from a launcher: %w", err)
	}
	fds, err := rights(oob[:n])
	if err != nil {
		return fmt.Errorf("syscalls: no listener from a launcher: %w", err)
	}
	l := &listener{s: s, fd: fds}
	defer unix.Close(l.fd)
	for _, r := range s.rules {
		s.cfg.Log(r.ArmedLine())
	}
	if _, err := conn.Write([]byte{1}); err != nil {
		return fmt.Errorf("syscalls: answer a launcher: %w", err)
	}
	l.serve()
	return nil
}

// sameUser refuses other users of the machine.
func sameUser(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("syscalls: launcher: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, credErr); err != nil {
		return fmt.Errorf("syscalls: launcher: %w", err)
	}
	if int(cred.Uid) != os.Getuid() {
		return fmt.Errorf("syscalls: launcher of user %d refused", cred.Uid)
	}
	return nil
}

// rights takes the one descriptor out of a control message.
func rights(oob []byte) (int, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) != 1 {
		return -1, fmt.Errorf("%d control messages: %w", len(msgs), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%d descriptors: %w", len(fds), err)
	}
	return fds[0], nil
}

// maxSaid bounds what is reported as unseen.
const maxSaid = 100

// unseen reports something once.
func (s *Supervisor) unseen(what string) {
	s.mu.Lock()
	again := s.said[what] || len(s.said) == maxSaid
	if !again {
		s.said[what] = true
	}
	s.mu.Unlock()
	if !again {
		s.cfg.Log("syscalls: " + what)
	}
}
