package namespace

import (
	"errors"
	"fmt"
	"slices"
)

// Validate reports all that is wrong with the options' values and with what they
// are together, each as option: what, why: how to mend it. It does not look at Name.
func (o *Options) Validate() error { return errors.Join(o.faults(nil)...) }

// faults is Validate; options in unread had no value that could be read, so that
// nothing is said about them.
func (o *Options) faults(unread map[string]bool) []error {
	v := validation{unread: unread}
	v.boundHistorySize(o.HistorySize)
	v.boundHistoryTTL(o)
	if o.ForceRecoveryMode > Cache {
		v.fault("force_recovery_mode", "%d is no mode: take Stream or Cache", o.ForceRecoveryMode)
	}

	history := o.HistorySize > 0 && o.HistoryTTL > 0
	v.need(o.HistorySize > 0, "history_size", o.HistoryTTL != 0, []string{"history_ttl"},
		`is without history_ttl, so nothing is kept: add it, for example "history_ttl": "300s", or remove history_size`)
	v.need(o.HistoryTTL > 0, "history_ttl", o.HistorySize != 0, []string{"history_size"},
		`is without history_size, so nothing is kept: add it, for example "history_size": 100, or remove history_ttl`)
	for _, x := range []struct {
		name string
		on   bool
	}{
		{"force_recovery", o.ForceRecovery},
		{"allow_recovery", o.AllowRecovery},
		{"force_positioning", o.ForcePositioning},
		{"allow_positioning", o.AllowPositioning},
		{"allow_history_for_client", o.AllowHistoryForClient},
		{"allow_history_for_subscriber", o.AllowHistoryForSubscriber},
	} {
		v.need(x.on, x.name, history, []string{"history_size", "history_ttl"},
			"is without a history, so there is nothing to send: add history_size and history_ttl, or remove "+x.name)
	}
	v.need(o.ForceRecoveryMode == Cache, "force_recovery_mode",
		o.ForceRecovery || o.AllowRecovery || o.AllowHistoryForClient || o.AllowHistoryForSubscriber,
		[]string{"force_recovery", "allow_recovery", "allow_history_for_client", "allow_history_for_subscriber"},
		`is "cache", but nobody can recover: add "force_recovery": true or "allow_recovery": true, or remove force_recovery_mode`)
	v.need(o.ForcePushJoinLeave, "force_push_join_leave", o.JoinLeave, []string{"join_leave"},
		`is without join_leave, so there is nothing to push: add "join_leave": true, or remove force_push_join_leave`)
	for _, x := range []struct {
		name string
		on   bool
	}{
		{"allow_presence_for_client", o.AllowPresenceForClient},
		{"allow_presence_for_subscriber", o.AllowPresenceForSubscriber},
	} {
		v.need(x.on, x.name, o.Presence, []string{"presence"},
			`is without presence, so there is nothing to see: add "presence": true, or remove `+x.name)
	}
	v.needRights(o)
	return v.faults
}

type validation struct {
	unread map[string]bool
	faults []error
}

func (v *validation) fault(name, format string, args ...any) {
	if !v.unread[name] {
		v.faults = append(v.faults, fmt.Errorf(name+": "+format, args...))
	}
}

// need reports an option that is on and has not what it needs. Where one of the
// options that decide this could not be read, it may have it.
func (v *validation) need(on bool, name string, met bool, deciding []string, text string) {
	if on && !met && !slices.ContainsFunc(deciding, func(d string) bool { return v.unread[d] }) {
		v.fault(name, "%s", text)
	}
}

func (v *validation) boundHistorySize(n int) {
	switch {
	case n < 0:
		v.fault("history_size", "%d is negative: write how many publications to keep, or 0 for no history", n)
	case n > historySizeMax:
		v.fault("history_size", "%d is more than %d, the most that one channel keeps: write a smaller number", n, historySizeMax)
	}
}

func (v *validation) boundHistoryTTL(o *Options) {
	switch ttl := o.HistoryTTL; {
	case ttl < 0:
		v.fault("history_ttl", `%s is negative: write for how long to keep publications, for example "300s"`, ttl)
	case ttl > 0 && ttl < historyTTLMin:
		v.fault("history_ttl", `%s is less than %s, too short to come back in: write at least "1s"`, ttl, historyTTLMin)
	}
}

// needRights reports rights for anonymous clients that extend nothing.
func (v *validation) needRights(o *Options) {
	for _, x := range []struct {
		op                 string
		anonymous, extends bool
		kinds              []string
	}{
		{"subscribe", o.AllowSubscribeForAnonymous, o.AllowSubscribeForClient, []string{"client"}},
		{"publish", o.AllowPublishForAnonymous, o.AllowPublishForClient || o.AllowPublishForSubscriber, []string{"client", "subscriber"}},
		{"presence", o.AllowPresenceForAnonymous, o.AllowPresenceForClient || o.AllowPresenceForSubscriber, []string{"client", "subscriber"}},
		{"history", o.AllowHistoryForAnonymous, o.AllowHistoryForClient || o.AllowHistoryForSubscriber, []string{"client", "subscriber"}},
	} {
		name := "allow_" + x.op + "_for_anonymous"
		var deciding []string
		var or string
		for i, kind := range x.kinds {
			deciding = append(deciding, "allow_"+x.op+"_for_"+kind)
			if i > 0 {
				or += " or "
			}
			or += deciding[i]
		}
		v.need(x.anonymous, name, x.extends, deciding,
			"gives no right alone, it extends that of others to anonymous clients: add "+or+", or remove "+name)
	}
}
