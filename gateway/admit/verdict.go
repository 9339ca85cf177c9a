package admit

// A Verdict says whether a connection may come in, and if not, why.
type Verdict uint8

const (
	// Admitted: the connection may come in.
	Admitted Verdict = iota
	// TotalRate: all addresses together open connections too fast.
	TotalRate
	// AddressRate: this address opens connections too fast.
	AddressRate
	// AddressOpen: this address has too many open connections.
	AddressOpen
	// AddressBlamed: connections of this address have done harm lately.
	AddressBlamed

	// The same reasons, where even refusals come too fast.

	TotalRateDrop
	AddressRateDrop
	AddressOpenDrop
	AddressBlamedDrop
)

// dropped is how far a refusal's Drop variant lies behind it.
const dropped = TotalRateDrop - TotalRate

// Drop reports whether the connection is to be reset without an answer.
func (v Verdict) Drop() bool { return v >= TotalRateDrop }

// String returns the reason's metric label; with Drop or without, it is the same.
func (v Verdict) String() string {
	switch v {
	case TotalRate, TotalRateDrop:
		return "accept_rate"
	case AddressRate, AddressRateDrop:
		return "address_rate"
	case AddressOpen, AddressOpenDrop:
		return "address_connections"
	case AddressBlamed, AddressBlamedDrop:
		return "address_blamed"
	}
	return "admitted"
}
