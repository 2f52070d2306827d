"""The page: the status of the cluster for people, readable without a script.

Theory of operation. `render` takes the same JSON that the API gives and returns one
HTML document; nothing on it comes from anywhere but this package, and the strict
content security policy holds it to that. `picture` computes the geometry of the two
drawings, `words` the small wordings. The page acts on nothing: what can be done is
shown as a command to copy.
"""

from agent.web.assets import Asset, asset
from agent.web.page import CONTENT_SECURITY_POLICY, Page, render

__all__ = ["CONTENT_SECURITY_POLICY", "Asset", "Page", "asset", "render"]
