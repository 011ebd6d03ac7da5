//! SIP messages, transactions and dialogs (RFC 3261), as far as a recorder needs them.
