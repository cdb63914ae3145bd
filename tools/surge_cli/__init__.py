"""What a person runs: the `surge` command and what stands behind its developer-facing sub-commands.

Place in the flow: above everything else. Other packages never import this one, except that their `cli`
modules raise `surge_host.errors.UserError` for what a person must put right.
"""

__version__ = "0.1.0"
