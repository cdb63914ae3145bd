"""What a person runs: the `surge` command and what stands behind its developer-facing sub-commands.

Place in the flow: above everything else. Other packages never import this one; what they share with it is in
`surge_host`.
"""
