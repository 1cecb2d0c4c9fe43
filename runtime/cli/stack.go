package cli

import (
	"context"
	"errors"

	"ds4/metal"
	"ds4/runtime/chat"
	"ds4/runtime/config"
	"ds4/runtime/engine"
	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/replay"
	"ds4/runtime/scheduler"
	"ds4/runtime/vfs"
)

// stackOptions are the settings of everything between the model and its users.
type stackOptions struct {
	model    *config.Model
	kv       *config.KV
	recovery *config.Recovery
	faults   *config.Faults
	sessions int // at most
	queue    int
	tokens   int // output cap
	// toolMemory is how many tool calls are remembered; 0: as many as is usual.
	toolMemory int
}

// stack is the program put together up to the scheduler. Fields are filled in the
// order of the start, and close takes them apart in the opposite one.
type stack struct {
	*weights
	dev metal.Device
	// backend is the driver with its set of kernels.
	backend string
	eng     *engine.Engine
	store   *kvstore.Store // nil without a disk cache
	// cacheProblem says why there is no store although one was asked for.
	cacheProblem string
	calls        *replay.Memory // of the tool calls that were sampled
	sched        *scheduler.Scheduler
	memory       memoryPlan
	maxPrefix    string // the model's text that asks for maximal effort
}

// newStack starts everything in the order that the log shows: model, device and
// engine, memory estimate, cache recovery, scheduler. onFatal is called when only
// a new process can help.
func (a *app) newStack(ctx context.Context, o stackOptions, log logFunc, errLine func(string), onFatal func(error)) (_ *stack, err error) {
	s := &stack{}
	defer func() {
		if err != nil {
			s.close(context.Background())
		}
	}()
	if s.weights, err = loadModel(o.model); err != nil {
		return nil, err
	}
	if err := s.checkChat(); err != nil {
		return nil, err
	}
	if v, ok := s.file.Value("tokenizer.chat_template"); ok {
		if template, err := v.Str(); err == nil {
			s.maxPrefix, _ = chat.FindMaxPrefix(template)
		}
	}
	available, source := memoryBudget(o.model)
	if s.memory, err = planMemory(s.model, o.model, o.sessions, available, source); err != nil {
		return nil, err
	}
	if err := s.startEngine(ctx, a, o, log); err != nil {
		return nil, err
	}
	log("model %s (%s, %s) backend=%s numerics=%s", s.id, s.file.Name(), formatBytes(uint64(s.file.Size())), s.backend, s.eng.Numerics())
	log("%s", s.memory)
	if s.memory.sessions < o.sessions {
		log("only %d of %d sessions fit in memory", s.memory.sessions, o.sessions)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.kv.Dir != "" {
		s.openStore(o, log)
	}
	s.openCalls(o, log)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.sched, err = scheduler.New(s.eng, s.tok, s.store, scheduler.Config{
		Sessions: s.memory.sessions, QueueLimit: o.queue, DefaultTokens: o.tokens,
		MinCacheTokens: o.kv.MinTokens, SegmentTokens: o.kv.SegmentTokens,
		PrefillFailureLimit: failureLimit(o), InlineRetry: o.recovery.InlineRetry,
		FailureWindow: o.recovery.FailureWindow, DeviceFailureExit: o.recovery.DeviceFailureExit, OnFatal: onFatal,
		RestoreMin: restoreMin(o.faults), Log: log, ErrLine: errLine, Now: pointClock.Now, Unsafe: scheduler.UnsafeOf(o.faults.Has),
	})
	return s, err
}

// startEngine makes the device, with the fault hooks around it, and the engine.
func (s *stack) startEngine(ctx context.Context, a *app, o stackOptions, log logFunc) error {
	dev, err := newCPU(o.model.Threads)
	if err != nil {
		return err
	}
	s.dev, s.backend = dev, backendName(dev)
	wrapped, err := armFaults(o.faults, a.Environ, dev, log)
	if err != nil {
		return err
	}
	s.dev = wrapped
	opt := s.memory.options(o.model)
	opt.Packing = packingLog(ctx, log, pointClock.Now)
	s.eng, err = engine.New(s.model, s.dev, opt)
	return err
}

// openStore opens the disk cache. A cache that cannot be used is no reason not to
// serve: the reason is kept for whoever asks how the server is.
func (s *stack) openStore(o stackOptions, log logFunc) {
	kv := o.kv
	quarantine := int64(kv.QuarantineMB) << 20
	identity := s.identity(o.faults)
	log("kv identity %x", identity)
	store, err := kvstore.Open(kvstore.Options{
		FS: vfs.OS, Dir: kv.Dir, Identity: identity, Layout: s.eng.Layout(),
		ContextTokens: o.model.Context, BudgetBytes: int64(kv.SpaceMB) << 20, QuarantineBytes: quarantine,
		MinTokens: kv.MinTokens, QuantBits: s.expertBits(),
		Validate: kvstore.Validate(kv.Validate), Sync: kvstore.Sync(kv.Sync), RecoverTimeout: kv.RecoverTimeout,
		Log: log, Now: pointClock.Now, Unsafe: kvstore.UnsafeOf(o.faults.Has),
	})
	if err != nil {
		s.cacheProblem = err.Error()
		log("disk cache is off: %v", err)
		return
	}
	s.store = store
}

// Calls are worth remembering as long as what stands on them is on disk, and a token of
// text takes a hundredth of what its rows take: so it depends on the budget of the disk
// cache how much is remembered. The file takes twice that.
const (
	callsShare = 64 // of the budget, from the default on
	callsMost  = 16 // of a smaller one
)

func callsBytes(spaceMB int) int64 {
	budget := int64(spaceMB) << 20
	return min(max(replay.DefaultBytes, budget/callsShare), budget/callsMost, replay.MostBytes)
}

// openCalls remembers tool calls, in a file if there is a disk cache.
func (s *stack) openCalls(o stackOptions, log logFunc) {
	opt := replay.Options{MaxIDs: o.toolMemory, Log: log, Now: pointClock.Now}
	if s.store != nil {
		opt.FS, opt.Name = vfs.OS, s.store.CallsFile()
		opt.MaxBytes = callsBytes(o.kv.SpaceMB)
		opt.Writable, opt.Holding, opt.Resized = s.store.Owned, s.store.HoldingKey, s.store.CountCalls
		opt.Sync = kvstore.Sync(o.kv.Sync) != kvstore.SyncNone
	}
	s.calls = replay.Open(opt)
	if s.store != nil {
		s.store.OnRegained(s.calls.Join)
	}
}

// close ends the scheduler, saves what it holds within ctx, and releases the
// rest. What still runs when ctx ends is abandoned with the process.
func (s *stack) close(ctx context.Context) error {
	var errs []error
	if s.sched != nil {
		errs = append(errs, s.sched.Shutdown(ctx))
	}
	if s.calls != nil {
		errs = append(errs, s.calls.Close(ctx))
	}
	if s.store != nil {
		errs = append(errs, s.store.Close(ctx))
	}
	if ctx.Err() != nil {
		return errors.Join(errs...) // the worker may still use engine and weights
	}
	if s.eng != nil {
		errs = append(errs, s.eng.Close())
	}
	if s.dev != nil {
		errs = append(errs, s.dev.Close())
	}
	if s.weights != nil {
		errs = append(errs, s.weights.close())
	}
	return errors.Join(errs...)
}
