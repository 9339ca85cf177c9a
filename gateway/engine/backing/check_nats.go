//go:build !nonats

package backing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/gateway/engine/nats"
	"sluice/gateway/engine/nats/datadir"
	"sluice/gateway/setting"
)

// check does what Check says, for a store that is not in memory.
func (s *Store) check(ctx context.Context, f *findings, messageMax int, stored bool) {
	if s.form() == Disk {
		s.checkDirectory(f, datadir.Look(s.DataDir))
	} else {
		s.checkServers(f, nats.InspectServers(ctx, s.servers(), messageMax), stored)
	}
}

// Judgements of the time that a write takes with fsync: below syncMemory it is none, above syncSlow
// it is not what --history-sync always is for, and above syncBad a disk delays everything that uses it.
const (
	syncMemory = 20 * time.Microsecond
	syncSlow   = 5 * time.Millisecond
	syncBad    = 100 * time.Millisecond
)

// checkDirectory reports what was seen of the data directory.
func (s *Store) checkDirectory(f *findings, r datadir.Report) {
	dir := "{DataDir} " + setting.Literal(s.DataDir)
	switch {
	case r.Err != nil:
		err := r.Err
		if fault := (*datadir.Fault)(nil); errors.As(err, &fault) {
			err = fault.Err // dir names the directory
		}
		f.add(Broken, "%s: %s", dir, setting.Literal(err.Error()))
		return
	case r.Holder > 0:
		f.add(Broken, "%s: in use by process %d", dir, r.Holder)
	case r.Holder < 0:
		f.add(Broken, "%s: in use by another process", dir)
	case r.New:
		f.add(Fine, "%s: will be created", dir)
	case r.Name == "":
		f.add(Fine, "%s: writable, and new", dir)
	default:
		f.add(Fine, "%s: writable; node %s, %s of histories", dir, setting.Literal(r.Name), about(r.Used))
	}
	if r.Warning != "" {
		f.add(Doubtful, "%s: %s", dir, r.Warning)
	}
	if r.Mark != "" {
		f.add(Doubtful, "%s: %s, so all clients will be notified that they may have missed messages", dir, r.Mark)
	}
	switch need := max(int64(s.DataMax)-r.Used, 0) + datadir.RoomLeast; {
	case r.Free < datadir.RoomLeast:
		f.add(Broken, "%s: only %s are free; below %s, publishing to channels with a history fails", dir, about(r.Free), about(datadir.RoomLeast))
	case r.Free < need:
		f.add(Doubtful, "%s: %s are free, but {DataMax} %s lets the store grow by %s, and below %s publishing to channels with a history fails; lower {DataMax}, or use a larger disk",
			dir, about(r.Free), setting.FormatSize(s.DataMax), about(need-datadir.RoomLeast), about(datadir.RoomLeast))
	default:
		f.add(Fine, "%s: %s are free, enough for {DataMax} %s", dir, about(r.Free), setting.FormatSize(s.DataMax))
	}
	s.judgeSync(f, dir, r.Sync, r.SyncMost)
}

func (s *Store) judgeSync(f *findings, dir string, median, most time.Duration) {
	took := fmt.Sprintf("%s: a write takes %v with fsync (at most %v)", dir, short(median), short(most))
	perSecond := int(time.Second / max(median, time.Microsecond))
	switch {
	case median < syncMemory:
		f.add(Doubtful, "%s: that is a file system in memory, or one that ignores fsync, so histories do not survive a power failure or a reboot", took)
	case s.HistorySync == SyncAlways && median > syncSlow:
		f.add(Doubtful, "%s: with {HistorySync} always, a namespace has about %d publications per second at most; use a faster disk, or interval", took, perSecond)
	case s.HistorySync == SyncAlways:
		f.add(Fine, "%s: with {HistorySync} always, that allows about %d publications per second in each namespace", took, perSecond)
	case median > syncBad:
		f.add(Doubtful, "%s: the disk is slow or busy, which delays publications", took)
	default:
		f.add(Fine, "%s", took)
	}
}

// clockMost is how far clocks may differ before a history's age means something else on each node.
const clockMost = time.Second

// checkServers reports what was seen of the servers.
func (s *Store) checkServers(f *findings, reports []nats.ServerReport, stored bool) {
	reachable := 0
	for _, r := range reports {
		if r.Err == nil {
			reachable++
		}
	}
	for _, r := range reports {
		where := "{NATSURL} " + setting.Literal(r.URL)
		if r.Err != nil {
			v, more := Broken, ""
			if reachable > 0 {
				v, more = Doubtful, "; the gateway uses the others"
			}
			text := setting.Literal(r.Err.Error())
			if named := setting.Error(""); errors.As(r.Err, &named) {
				text = string(named)
			}
			f.add(v, "%s: %s%s", where, text, more)
			continue
		}
		f.add(Fine, "%s: nats-server %s, %s", where, r.Version, setting.Literal(r.Name))
		if r.TooOld != "" {
			f.add(Broken, "%s: nats-server %s is too old: upgrade it to %s or later", where, r.Version, r.TooOld)
		}
		if r.Advice != "" {
			f.add(Doubtful, "%s: %s", where, r.Advice)
		}
		if r.MaxPayload < r.NeedPayload {
			f.add(Broken, "%s: {MaxMessage} does not fit max_payload %s: lower it, or set max_payload to %s or more", where, about(r.MaxPayload), about(r.NeedPayload))
		}
		s.checkJetStream(f, where, &r, stored)
		switch off := r.Clock.Abs(); {
		case !r.ClockKnown:
			f.add(Unknown, "%s: the server does not say what time it has", where)
		case off-r.ClockError > clockMost:
			f.add(Doubtful, "%s: the server's clock and this machine's differ by %v: synchronize them (NTP), because the age of a publication is counted by them", where, short(off))
		default:
			f.add(Fine, "%s: the clocks differ by less than %v", where, short(max(off+r.ClockError, time.Millisecond)))
		}
	}
}

func (s *Store) checkJetStream(f *findings, where string, r *nats.ServerReport, stored bool) {
	switch {
	case r.JetStream != nil && stored:
		f.add(Broken, "%s: JetStream cannot be used, and channels with a history need it: %s", where, setting.Literal(r.JetStream.Error()))
		return
	case r.JetStream != nil:
		f.add(Fine, "%s: JetStream is off, and no channel needs it", where)
		return
	}
	replicas := s.NATSReplicas
	if replicas == 0 && r.Cluster != "" {
		replicas = 3
	}
	switch {
	case r.MaxStore > 0 && r.MaxStore < int64(s.DataMax):
		f.add(Doubtful, "%s: this account may store %s, which is less than {DataMax} %s", where, about(r.MaxStore), setting.FormatSize(s.DataMax))
	case r.Cluster == "" && replicas > 1:
		f.add(Broken, "%s: {NATSReplicas} %d needs a cluster, and this server is in none", where, replicas)
	case replicas > r.Servers:
		f.add(Doubtful, "%s: the cluster has %d servers that are known from here, and {NATSReplicas} is %d: streams cannot be created unless there are more", where, r.Servers, replicas)
	case replicas > 1:
		f.add(Fine, "%s: JetStream is on, and each history is stored on %d servers", where, replicas)
	default:
		f.add(Fine, "%s: JetStream is on, and each history is stored once", where)
	}
}

// about returns a size for people.
func about(bytes int64) string {
	switch {
	case bytes >= 10<<30:
		return fmt.Sprintf("%d GiB", bytes>>30)
	case bytes >= 10<<20:
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%d KiB", bytes>>10)
}

// short returns a duration with two digits or so.
func short(d time.Duration) time.Duration {
	for unit := time.Second; unit > 1; unit /= 10 {
		if d >= 10*unit {
			return d.Round(unit)
		}
	}
	return d
}

// servers returns how to reach the NATS servers.
func (s *Store) servers() nats.Servers {
	return nats.Servers{
		URLs: s.urls(), Creds: s.NATSCreds, Nkey: s.NATSNkey, CA: s.NATSTLSCA, Cert: s.NATSTLSCert, Key: s.NATSTLSKey,
		Prefix: s.NATSPrefix, Replicas: s.NATSReplicas,
	}
}
