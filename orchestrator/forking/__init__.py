"""Workers of this host: forked from a process that has imported torch already, and heard of to their end."""
