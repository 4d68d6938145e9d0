drop function workers;
