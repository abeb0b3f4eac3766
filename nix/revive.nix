# Starts the agent should it be gone, whoever stopped it: nobody else would mend
# the host. Whoever wants it to stay stopped stops this as well, or suspends it.
{
  description = "Starts fort-agent should it be gone";
  wantedBy = [ "timers.target" ];
  # No switch stops it, not even one to a system without it. One that brings
  # another text of it restarts it: that is so for all timers.
  unitConfig.X-StopOnRemoval = false;
  timerConfig = {
    Unit = "fort-agent.service";
    OnActiveSec = "30s";
    OnUnitInactiveSec = "30s";
    AccuracySec = "1s";
  };
}
