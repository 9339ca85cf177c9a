package admit

// A Verdict is the decision on a connection: admitted, or the reason for refusing it.
type Verdict uint8

const (
	// Admitted: the connection is accepted.
	Admitted Verdict = iota
	// TotalRate: all addresses together open connections too fast.
	TotalRate
	// AddressRate: this address opens connections too fast.
	AddressRate
	// AddressOpen: this address has too many open connections.
	AddressOpen
	// AddressBlamed: connections of this address have done harm recently.
	AddressBlamed

	// The same reasons, where even refusals come too fast.

	TotalRateDrop
	AddressRateDrop
	AddressOpenDrop
	AddressBlamedDrop
)

// dropped is how far a refusal's Drop variant lies behind it.
const dropped = TotalRateDrop - TotalRate

// Drop reports whether to reset the connection without a response.
func (v Verdict) Drop() bool { return v >= TotalRateDrop }

// Reason returns v without Drop.
func (v Verdict) Reason() Verdict {
	if v.Drop() {
		return v - dropped
	}
	return v
}

// String returns the reason's metric label, which is the same with and without Drop.
func (v Verdict) String() string {
	switch v.Reason() {
	case TotalRate:
		return "accept_rate"
	case AddressRate:
		return "address_rate"
	case AddressOpen:
		return "address_connections"
	case AddressBlamed:
		return "address_blamed"
	}
	return "admitted"
}
