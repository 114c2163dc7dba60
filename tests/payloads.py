"""Thirty texts that try to become markup, script, style or a request, and would leave ``pwned`` behind."""

from __future__ import annotations

_RUN = "document.documentElement.setAttribute('data-pwned','1');alert('pwned')"
_URL = "http://pwned.invalid/x"

PAYLOADS = (
    f"<script>{_RUN}</script>",
    f"</script><script>{_RUN}</script>",
    f"<img src=x onerror=\"{_RUN}\">",
    f"\"><img src=x onerror=\"{_RUN}\">",
    f"'><svg onload=\"{_RUN}\">",
    f"</title><script>{_RUN}</script>",
    f"</style><script>{_RUN}</script>",
    f"</textarea><script>{_RUN}</script>",
    f"</select><script>{_RUN}</script>",
    f"</option></select><img src=x onerror=\"{_RUN}\">",
    f"<svg><script>{_RUN}</script></svg>",
    f"</svg><script>{_RUN}</script>",
    f"</pre></code><script>{_RUN}</script>",
    f"<!-- --><script>{_RUN}</script>",
    f"--><script>{_RUN}</script>",
    f"<!--<script>{_RUN}",
    f"<![CDATA[<script>{_RUN}</script>]]>",
    f"<iframe src=\"{_URL}\"></iframe>",
    f"<iframe srcdoc=\"<script>{_RUN}</script>\"></iframe>",
    f"<link rel=stylesheet href=\"{_URL}.css\">",
    f"<style>@import url({_URL}.css);body{{background:url({_URL}.png)}}</style>",
    f"<meta http-equiv=refresh content=\"0;url={_URL}\">",
    f"<base href=\"{_URL}\">",
    f"<a href=\"javascript:{_RUN}\" autofocus onfocus=\"{_RUN}\">x</a>",
    f"<form action=\"{_URL}\"><input autofocus onfocus=\"{_RUN}\">",
    f"<object data=\"{_URL}\"></object><embed src=\"{_URL}\">",
    f"{{{{ 7 * 7 }}}}{{% raw %}}<script>{_RUN}</script>",
    f"\" onmouseover=\"{_RUN}\" autofocus onfocus=\"{_RUN}\" x=\"",
    f"\u2028\u2029\\u003cscript\\u003e{_RUN}//\\\"];{_RUN};//",
    f"&lt;script&gt;{_RUN}&lt;/script&gt;&#60;img src=x onerror={_RUN}&#62;",
)  # fmt: skip
