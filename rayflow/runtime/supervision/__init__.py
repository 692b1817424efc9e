"""Supervision as OTP teaches it: specs are data, the supervisor is a pure state machine, the coordinator its hands."""
