"""What the REAPI's messages and services are on the wire, generated of the `.proto` files beside this one.

Invariant: names, numbers and types are the protocol's own. `scripts/make-protocol.sh` makes the files, never a hand.
Elsewhere: what sapwood makes of them.
"""
