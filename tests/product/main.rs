//! The product from outside, one promise per file.

mod a_call_by_another_client_can_be_found_and_played;
mod a_call_goes_on_after_kill_9;
mod a_store_that_fails_loses_and_doubles_nothing;
mod an_encrypted_call_is_recorded;
mod bad_input_is_told_clearly;
mod every_packet_of_fifty_calls_is_there;
mod garbage_disturbs_nothing;
mod nothing_readable_lies_on_disk;
mod odd_calls_are_recorded_and_flagged;
mod the_browser_plays_a_call;
mod the_recording_is_what_was_sent;
