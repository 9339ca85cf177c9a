package main

// Figure is one figure, or a few of one program.
type Figure struct {
	Name   string
	What   string // one line
	Rounds int    // of the long form; 0: it has none
	Run    func(*Run)
}

// figures are all figures, in the order of their list.
var figures = []Figure{
	{"durable-kill", "one gateway with a data directory is killed under load, again and again: acknowledged publications missing, clients that recover", 0, durableKill},
	{"durable-rate", "durable publications per second of publishers that wait for receipts, against a bare JetStream publisher", 5, durableRate},
	{"durable-latency", "live latency that durability adds", 5, durableLatency},
	{"hop-latency", "latency that one hop over NATS adds", 5, hopLatency},
	{"rate", "highest rate of publications of 1 KB without history over three gateways", 3, highestRate},
	{"channel-memory", "heap per channel with interest, beyond the local engine's", 3, channelMemory},
	{"resubscribe", "time until all channels are subscribed again after a NATS restart", 5, resubscribe},
	{"resume", "clients resume on another node: time, and reads of streams", 5, resume},
	{"gateway-kill", "one of three gateways is killed: time until its clients are back on the others", 5, gatewayKill},
}
