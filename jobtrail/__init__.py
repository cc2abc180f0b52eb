"""Jobtrail: event-sourced tracking of data-sync jobs."""
