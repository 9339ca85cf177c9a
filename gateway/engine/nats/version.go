package nats

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// version is a NATS server's: major, minor and patch.
type version [3]int

var (
	// versionLeast is the oldest version that works: Debian 12's.
	versionLeast = version{2, 9, 10}
	// versionBatch is the first one that answers a direct get with several messages.
	versionBatch = version{2, 11, 0}
	// versionAgrees is the first one whose replicas have stayed alike: row 13 of bench/chaos stops a server for
	// 12 s while others publish. After that, replicas of 2.9.10 and of 2.9.25 had different messages at the same
	// sequences, for good, and acknowledged ones were in none of them. Those of 2.10.29, 2.11.15 and 2.15.3 agreed.
	versionAgrees = version{2, 10, 0}
)

// parseVersion reads what a server says, such as 2.12.0-RC.1. ok is false if that is no version.
func parseVersion(text string) (v version, ok bool) {
	n, err := fmt.Sscanf(strings.TrimPrefix(text, "v"), "%d.%d.%d", &v[0], &v[1], &v[2])
	return v, n == 3 && err == nil
}

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }

func (v version) less(w version) bool { return slices.CompareFunc(v[:], w[:], cmp.Compare) < 0 }

// advisory is one or more published vulnerabilities of NATS's server, with the versions that fix it in
// ascending order, one for each line of versions. Lines below that have no fix.
type advisory struct {
	ids   string
	fixed []version
}

// advisories are those of https://github.com/nats-io/advisories, as of 2026-06-29. Those that are fixed in
// the same versions are one row, and only some of them are named.
var advisories = []advisory{
	{"CVE-2023-47090", []version{{2, 9, 23}, {2, 10, 2}}},
	{"CVE-2025-30215", []version{{2, 10, 27}, {2, 11, 1}}},
	{"CVE-2026-27571", []version{{2, 11, 12}, {2, 12, 3}}},
	{"CVE-2026-27889", []version{{2, 11, 14}, {2, 12, 5}}},
	{"CVE-2026-33222", []version{{2, 11, 15}, {2, 12, 6}}},
	{"GHSA-38x3-76xf-cq45", []version{{2, 11, 16}, {2, 12, 7}, {2, 14, 0}}},
	{"GHSA-3g5q-cfh2-cq67", []version{{2, 11, 17}, {2, 12, 8}}},
	{"GHSA-qrcv-3558-gj4f", []version{{2, 12, 9}, {2, 14, 1}}},
	{"GHSA-g33f-6538-grxh", []version{{2, 12, 10}, {2, 14, 2}}},
	{"GHSA-q59r-vq66-pxc2", []version{{2, 12, 12}, {2, 14, 3}}},
}

// concerns reports whether a version is vulnerable.
func (a *advisory) concerns(v version) bool {
	for _, f := range a.fixed {
		if f[0] == v[0] && f[1] == v[1] {
			return v.less(f)
		}
	}
	return v.less(a.fixed[len(a.fixed)-1])
}

// advice returns what is known against a version, alone or in a cluster: "" for nothing.
func advice(v version, clustered bool) string {
	var ids, fixed []string
	for i := range advisories {
		a := &advisories[i]
		if !a.concerns(v) {
			continue
		}
		ids, fixed = append(ids, a.ids), fixed[:0]
		for _, f := range a.fixed {
			if v.less(f) {
				fixed = append(fixed, f.String())
			}
		}
	}
	var against []string
	if clustered && v.less(versionAgrees) {
		against = append(against, "can lose acknowledged publications in a cluster when a server stands still for seconds")
	}
	if ids != nil {
		against = append(against, fmt.Sprintf("has published vulnerabilities (%s)", strings.Join(ids, ", ")))
	}
	if against == nil {
		return ""
	}
	return fmt.Sprintf("nats-server %v %s: upgrade it to %s or later", v, strings.Join(against, ", and "), strings.Join(fixed, " or "))
}
