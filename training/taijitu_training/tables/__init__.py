"""The papers' tables: experiments, results and what differs."""
