drop function workers, newest_tick, newest_minute, newest_bar;
