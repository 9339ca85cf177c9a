package admit

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

func TestAddressThatDoesHarmIsRefusedForAMinute(t *testing.T) {
	table := New(Limits{})
	enter(table, bob, 0, 5)
	harm := func(n int, now int64) {
		t.Helper()
		for range n {
			s, v := table.Enter(alice, now)
			if v != Admitted {
				t.Fatalf("%s, want admitted before it does harm", v)
			}
			table.Blame(s, now)
			table.Leave(s)
		}
	}
	harm(2, 0)
	harm(1, blameFor) // the others are forgotten
	harm(2, 2*blameFor-1)
	if _, v := table.Enter(alice, 3*blameFor-2); v != AddressBlamed {
		t.Errorf("%s, want blamed", v)
	}
	if _, v := table.Enter(bob, 3*blameFor-2); v != Admitted {
		t.Errorf("%s, want others admitted", v)
	}
	_, got := enter(table, alice, 3*blameFor-2, 1000)
	if got[AddressBlamed] == 0 || got[AddressBlamedDrop] == 0 || got[Admitted] > 0 {
		t.Errorf("%v, want so many answered and the others dropped", got)
	}
	harm(1, 3*blameFor)
	table.Blame(0, 3*blameFor) // no seat
}

func TestAddressOfMostConnectionsIsNotBlamed(t *testing.T) {
	table := New(Limits{})
	seats, _ := enter(table, alice, 0, 3)
	enter(table, bob, 0, 2)
	for range 2 * blameTimes {
		table.Blame(seats[0], 0)
	}
	if _, v := table.Enter(alice, 0); v != Admitted {
		t.Errorf("%s, although most connections are its own", v)
	}
	enter(table, bob, 0, 3)
	if _, v := table.Enter(alice, 0); v != AddressBlamed {
		t.Errorf("%s, although it has four of nine connections", v)
	}
}

func TestBlamesAreBounded(t *testing.T) {
	table := New(Limits{})
	for i := range 3 * blamesMax {
		s, _ := table.Enter(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(i)))), int64(i/blamesMax)*blameFor)
		table.Blame(s, int64(i/blamesMax)*blameFor)
		table.Leave(s)
		if n := len(table.blames); n > blamesMax || i < blamesMax && n != i+1 {
			t.Fatalf("%d addresses are remembered after %d", n, i+1)
		}
	}
}
