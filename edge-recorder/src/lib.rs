//! Records SIPREC calls: sockets, capture, journal, upload.
