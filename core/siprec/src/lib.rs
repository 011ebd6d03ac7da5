//! SIP, SIPREC, SDP and RTP as state machines.
