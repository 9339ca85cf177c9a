package namespace

import (
	"errors"
	"fmt"
	"slices"
)

// Validate returns an error that holds all errors in the options, one by one and together,
// each as option: what, why: how to fix it. It does not check Name.
func (o *Options) Validate() error { return errors.Join(o.faults(nil)...) }

// faults returns what Validate joins. Nothing is reported about options in unread, whose
// values could not be read.
func (o *Options) faults(unread map[string]bool) []error {
	v := validation{unread: unread}
	v.boundHistorySize(o.HistorySize)
	v.boundHistoryTTL(o)
	if o.ForceRecoveryMode > Cache {
		v.fault("force_recovery_mode", "%d is not a recovery mode: use Stream or Cache", o.ForceRecoveryMode)
	}

	history := o.HistorySize > 0 && o.HistoryTTL > 0
	v.need(o.HistorySize > 0, "history_size", o.HistoryTTL != 0, []string{"history_ttl"},
		`has no effect without history_ttl; add it, for example "history_ttl": "300s", or remove history_size`)
	v.need(o.HistoryTTL > 0, "history_ttl", o.HistorySize != 0, []string{"history_size"},
		`has no effect without history_size; add it, for example "history_size": 100, or remove history_ttl`)
	v.need(o.Durable != nil, "durable", o.HistorySize != 0, []string{"history_size"},
		"says whether the history is stored, and there is no history; add history_size and history_ttl, or remove durable")
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
			"has no effect without a history; add history_size and history_ttl, or remove "+x.name)
	}
	v.need(o.ForceRecoveryMode == Cache, "force_recovery_mode",
		o.ForceRecovery || o.AllowRecovery || o.AllowHistoryForClient || o.AllowHistoryForSubscriber,
		[]string{"force_recovery", "allow_recovery", "allow_history_for_client", "allow_history_for_subscriber"},
		`"cache" has no effect, because no client can recover: add "force_recovery": true or "allow_recovery": true, or remove force_recovery_mode`)
	v.need(o.ForcePushJoinLeave, "force_push_join_leave", o.JoinLeave, []string{"join_leave"},
		`has no effect without join_leave; add "join_leave": true, or remove force_push_join_leave`)
	for _, x := range []struct {
		name string
		on   bool
	}{
		{"allow_presence_for_client", o.AllowPresenceForClient},
		{"allow_presence_for_subscriber", o.AllowPresenceForSubscriber},
	} {
		v.need(x.on, x.name, o.Presence, []string{"presence"},
			`has no effect without presence; add "presence": true, or remove `+x.name)
	}
	for _, x := range []struct {
		event, name string
		on          bool
	}{
		{"subscribe", o.SubscribeProxyName, o.SubscribeProxyEnabled},
		{"publish", o.PublishProxyName, o.PublishProxyEnabled},
		{"sub_refresh", o.SubRefreshProxyName, o.SubRefreshProxyEnabled},
	} {
		name, enabled := x.event+"_proxy_name", x.event+"_proxy_enabled"
		v.need(x.name != "", name, x.on, []string{enabled}, fmt.Sprintf(`has no effect without %s; add %q: true, or remove %s`, enabled, enabled, name))
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

// need reports an option that is on but lacks what it needs. If one of the deciding
// options could not be read, the need may be met, and nothing is reported.
func (v *validation) need(on bool, name string, met bool, deciding []string, text string) {
	if on && !met && !slices.ContainsFunc(deciding, func(d string) bool { return v.unread[d] }) {
		v.fault(name, "%s", text)
	}
}

func (v *validation) boundHistorySize(n int) {
	switch {
	case n < 0:
		v.fault("history_size", "%d must not be negative; write the number of publications to keep, or 0 for no history", n)
	case n > historySizeMax:
		v.fault("history_size", "%d is more than %d, the most that one channel can keep; write a smaller number", n, historySizeMax)
	}
}

func (v *validation) boundHistoryTTL(o *Options) {
	switch ttl := o.HistoryTTL; {
	case ttl < 0:
		v.fault("history_ttl", `%s is negative; write how long to keep publications, for example "300s"`, ttl)
	case ttl > 0 && ttl < historyTTLMin:
		v.fault("history_ttl", `%s is less than %s, too short for a client to reconnect; write at least "1s"`, ttl, historyTTLMin)
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
			"grants nothing by itself; it extends another permission to anonymous clients: add "+or+", or remove "+name)
	}
}
