package gateway

import (
	"fmt"
	"reflect"
	"strings"
)

// ReloadOptions say how a configuration is replaced.
type ReloadOptions struct {
	// Revoke ends the connections of tokens that were signed by a key that is not configured any more. Otherwise they stay
	// until the token expires.
	Revoke bool
}

// Reloaded says what a new configuration has changed.
type Reloaded struct {
	Changed      []string // fields of Config
	Unsubscribed int      // subscriptions that are not allowed any more
	Disconnected int      // connections that are not
}

// NeedsRestart is the error for a configuration with changes that need another Server.
type NeedsRestart struct {
	Fields []string // of Config
}

// Error implements error.
func (e *NeedsRestart) Error() string {
	return fmt.Sprintf("gateway: a change of %s needs a restart", strings.Join(e.Fields, ", "))
}

// Reload replaces the server's configuration by next, completely or not at all. Fields whose tag reload is empty cannot
// change: the error is a [*NeedsRestart] then. Functions, and what describes the program, stay as they are. Faults are those
// of [Config.Validate].
func (s *Server) Reload(next Config, how ReloadOptions) (_ Reloaded, err error) {
	defer func() { s.reloads.note(err) }()
	s.reloads.mu.Lock()
	defer s.reloads.mu.Unlock()
	if err := next.Validate(); err != nil {
		return Reloaded{}, err
	}
	next = next.withDefaults()
	var r Reloaded
	var restart []string
	for _, f := range changedFields(s.given, next) {
		if f.Tag.Get("reload") == "" {
			restart = append(restart, f.Name)
		}
		r.Changed = append(r.Changed, f.Name)
	}
	if restart != nil {
		return Reloaded{}, &NeedsRestart{restart}
	}
	s.given = next
	s.events.setWebhooks(next.Webhooks)
	return r, nil
}

// ofProgram are the fields that say what program this is, and do not change.
var ofProgram = map[string]bool{"Inherited": true, "PublishURL": true, "Version": true, "Commit": true, "Logger": true}

// changedFields returns the fields of Config, and those of Store, that differ. Pointers are the same if they are equal.
func changedFields(a, b Config) (list []reflect.StructField) {
	var compare func(a, b reflect.Value)
	compare = func(a, b reflect.Value) {
		for i := range a.NumField() {
			f := a.Type().Field(i)
			x, y := a.Field(i), b.Field(i)
			switch {
			case !f.IsExported() || ofProgram[f.Name] || f.Type.Kind() == reflect.Func:
			case f.Type == reflect.TypeFor[Store]():
				compare(x, y)
			case f.Type.Kind() == reflect.Pointer && x.Pointer() != y.Pointer(), f.Type.Kind() != reflect.Pointer && !reflect.DeepEqual(x.Interface(), y.Interface()):
				list = append(list, f)
			}
		}
	}
	compare(reflect.ValueOf(a), reflect.ValueOf(b))
	return list
}
