"""The papers' tables: experiments, results and their differences."""
