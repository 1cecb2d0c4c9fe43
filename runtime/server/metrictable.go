package server

import (
	"ds4/runtime/kvstore"
	"ds4/runtime/scheduler"
)

// schedulerStats and schedulerMaps are the numbers of the scheduler.
var schedulerStats = []stat[scheduler.Stats]{
	gauge("queue_depth", "Requests that wait.", func(s scheduler.Stats) float64 { return float64(s.QueueDepth) }),
	gauge("active_requests", "Requests that hold a session.", func(s scheduler.Stats) float64 { return float64(s.ActiveRequests) }),
	gauge("live_sessions", "Sessions in memory that hold tokens.", func(s scheduler.Stats) float64 { return float64(s.LiveSessions) }),
	counter("cancelled_total", "Requests whose client went away.", func(s scheduler.Stats) float64 { return float64(s.Cancelled) }),

	counter("prefill_tokens_total", "Prompt tokens that the backend evaluated.", func(s scheduler.Stats) float64 { return float64(s.PrefillTokens) }),
	counter("prefill_seconds_total", "Backend time of prefill.", func(s scheduler.Stats) float64 { return s.PrefillTime.Seconds() }),
	counter("prefill_chunks_total", "Chunks of prefill that completed.", func(s scheduler.Stats) float64 { return float64(s.PrefillChunks) }),
	counter("prefill_attempts_total", "Prompts given to the device.", func(s scheduler.Stats) float64 { return float64(s.PrefillAttempts) }),
	counter("decode_tokens_total", "Sampled tokens that the backend evaluated.", func(s scheduler.Stats) float64 { return float64(s.DecodeTokens) }),
	counter("decode_seconds_total", "Backend time of decode.", func(s scheduler.Stats) float64 { return s.DecodeTime.Seconds() }),
	counter("decode_read_bytes_total", "Least that decode had to read: active weights and rows of sessions.", func(s scheduler.Stats) float64 { return float64(s.DecodeReadBytes) }),
	counter("cached_tokens_total", "Prompt tokens reused from memory or disk.", func(s scheduler.Stats) float64 { return float64(s.CachedTokens) }),
	counter("restored_tokens_total", "Prompt tokens reused from disk.", func(s scheduler.Stats) float64 { return float64(s.RestoredTokens) }),
	counter("restore_seconds_total", "Time spent on restores from disk.", func(s scheduler.Stats) float64 { return s.RestoreTime.Seconds() }),
	counter("save_stall_seconds_total", "Time the model stood still while a segment was copied or waited for the writer.", func(s scheduler.Stats) float64 { return s.SaveStall.Seconds() }),

	counter("inline_retries_total", "Cold retries inside a request.", func(s scheduler.Stats) float64 { return float64(s.InlineRetries) }),
	counter("contexts_cleared_total", "Context ranges cleared at the failure limit.", func(s scheduler.Stats) float64 { return float64(s.LimitReached) }),
	counter("chains_convicted_total", "Stored prefixes found guilty by a cold success.", func(s scheduler.Stats) float64 { return float64(s.Convicted) }),
	gauge("failure_streak", "Longest streak of failures of one context range.", func(s scheduler.Stats) float64 { return float64(s.MaxStreak) }),
	gauge("failing_ranges", "Context ranges with a streak.", func(s scheduler.Stats) float64 { return float64(s.RangesFailing) }),
	gauge("breaker_open", "1 while new requests are refused because the device fails.", func(s scheduler.Stats) float64 { return truth(s.BreakerOpen) }),
	counter("breaker_opened_total", "How often the breaker opened.", func(s scheduler.Stats) float64 { return float64(s.BreakerOpened) }),
	counter("device_rebuilds_total", "How often the device was rebuilt after an error.", func(s scheduler.Stats) float64 { return float64(s.DeviceRebuilds) }),
}

var schedulerMaps = []statMap[scheduler.Stats]{
	counters("requests_total", "outcome", "Requests that ended, by outcome.", func(s scheduler.Stats) map[string]float64 {
		return numbers(s.Requests, "stop", "length", "tool_calls", "error", "cancelled", "rejected", "shutdown")
	}),
	counters("prefills_total", "source", "Prefills that completed, by where the prefix came from.", func(s scheduler.Stats) map[string]float64 {
		return numbers(s.Reuse, scheduler.SourceCold, scheduler.SourceMemoryToken, scheduler.SourceMemoryText, scheduler.SourceDisk)
	}),
	counters("failures_total", "class", "Failures, by class.", func(s scheduler.Stats) map[string]float64 {
		return numbers(s.Failures, "device", "resource", "restore", "internal")
	}),
	counters("canaries_total", "result", "Trial prefills while the breaker is open.", func(s scheduler.Stats) map[string]float64 {
		return map[string]float64{"passed": float64(s.CanaryPassed), "failed": float64(s.CanaryFailed)}
	}),
}

// storeStats and storeMaps are the numbers of the disk cache; without one they are
// not exported.
var storeStats = []stat[kvstore.Stats]{
	gauge("kv_segments", "Segments in the index.", func(s kvstore.Stats) float64 { return float64(s.Segments) }),
	gauge("kv_withheld_segments", "Segments on probation.", func(s kvstore.Stats) float64 { return float64(s.Withheld) }),
	gauge("kv_used_bytes", "Everything under the folder, as it counts for the budget.", func(s kvstore.Stats) float64 { return float64(s.UsedBytes) }),
	gauge("kv_budget_bytes", "Budget of the folder.", func(s kvstore.Stats) float64 { return float64(s.BudgetBytes) }),
	gauge("kv_queued_segments", "Segments that wait for the writer.", func(s kvstore.Stats) float64 { return float64(s.Queued) }),
	gauge("kv_hung_reads", "Reads of abandoned restores that have not come back.", func(s kvstore.Stats) float64 { return float64(s.HungReads) }),
	gauge("kv_healthy", "1 if the disk cache works as it should.", func(s kvstore.Stats) float64 { return truth(s.Healthy) }),
	gauge("kv_read_only", "1 if another process holds the folder.", func(s kvstore.Stats) float64 { return truth(s.ReadOnly) }),
	gauge("kv_recovery_seconds", "Duration of the recovery at start.", func(s kvstore.Stats) float64 { return s.Recovery.Time.Seconds() }),
	gauge("kv_recovery_freed_bytes", "What the recovery at start removed.", func(s kvstore.Stats) float64 { return float64(s.Recovery.FreedBytes) }),

	counter("kv_lookups_total", "Prompts looked up.", func(s kvstore.Stats) float64 { return float64(s.Lookups) }),
	counter("kv_hits_total", "Restores that succeeded.", func(s kvstore.Stats) float64 { return float64(s.Hits) }),
	counter("kv_store_seconds_total", "Time spent on writing segments.", func(s kvstore.Stats) float64 { return s.WriteTime.Seconds() }),
	counter("kv_store_stall_seconds_total", "Time that saves waited for the writer.", func(s kvstore.Stats) float64 { return s.SaveStall.Seconds() }),
	counter("kv_restore_seconds_total", "Time spent on restores that succeeded.", func(s kvstore.Stats) float64 { return s.RestoreTime.Seconds() }),
	counter("kv_written_bytes_total", "Bytes of segments written.", func(s kvstore.Stats) float64 { return float64(s.BytesWritten) }),
	counter("kv_read_bytes_total", "Bytes read by restores.", func(s kvstore.Stats) float64 { return float64(s.BytesRead) }),
	counter("kv_stored_tokens_total", "Tokens covered by the segments written.", func(s kvstore.Stats) float64 { return float64(s.TokensStored) }),
	counter("kv_corrupt_total", "Segments found damaged after the start.", func(s kvstore.Stats) float64 { return float64(s.Corrupt) }),
	counter("kv_regained_total", "Times that a cache that was off or read-only could be used again.", func(s kvstore.Stats) float64 { return float64(s.Regained) }),
	counter("kv_missing_total", "Segments whose file was gone.", func(s kvstore.Stats) float64 { return float64(s.Missing) }),
	counter("kv_convicted_total", "Segments found guilty of a device failure.", func(s kvstore.Stats) float64 { return float64(s.Convicted) }),
}

var storeMaps = []statMap[kvstore.Stats]{
	gauges("kv_bytes", "state", "Bytes under the folder, by what they are.", func(s kvstore.Stats) map[string]float64 {
		return map[string]float64{
			"segment": float64(s.SegmentBytes), "quarantine": float64(s.QuarantineBytes), "foreign": float64(s.ForeignBytes),
			"toolcalls": float64(s.CallBytes),
		}
	}),
	gauges("kv_recovery_segments", "verdict", "Segments that the recovery at start found.", func(s kvstore.Stats) map[string]float64 {
		v := s.Recovery
		return map[string]float64{
			"ok": float64(v.OK), "stale": float64(v.Stale), "corrupt": float64(v.Corrupt),
			"unreadable": float64(v.Unreadable), "orphan": float64(v.Orphan), "poisoned": float64(v.Poisoned),
		}
	}),
	counters("kv_stores_total", "result", "Saves of segments.", func(s kvstore.Stats) map[string]float64 {
		return map[string]float64{"stored": float64(s.Stored), "skipped": float64(s.StoreSkipped), "failed": float64(s.StoreFailed)}
	}),
	counters("kv_restore_failures_total", "why", "Restores that brought nothing back.", func(s kvstore.Stats) map[string]float64 {
		return map[string]float64{"failed": float64(s.RestoreFailed - s.RestoreAbandoned), "abandoned": float64(s.RestoreAbandoned)}
	}),
	counters("kv_evictions_total", "reason", "Segments removed.", func(s kvstore.Stats) map[string]float64 {
		return numbers(s.Evictions)
	}),
	counters("kv_io_failures_total", "operation", "Failures of housekeeping.", func(s kvstore.Stats) map[string]float64 {
		return map[string]float64{"unlink": float64(s.UnlinkFailed), "journal": float64(s.JournalFailed)}
	}),
}
