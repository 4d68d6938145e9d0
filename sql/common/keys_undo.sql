-- Undo 0003. Nobody can log in any more.
drop function redeem_link, make_key;
drop table api_key;
