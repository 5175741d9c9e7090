"""Pages as the web writes them, and the rows that each must give; `report` names where the kind was met, if publicly.

A page stands at `URL`. Rows are (address, caption) for what is kept, and (address, reason) in `passed` for what is not;
addresses are shortened to what differs from `http://pics.example/`.
"""

from dataclasses import dataclass

# ruff: noqa: E501 - a page is one line

URL = "http://pics.example/news/page.html"


@dataclass(frozen=True)
class Kind:
    """One page."""

    name: str
    html: str
    kept: tuple[tuple[str, str], ...] = ()
    passed: tuple[tuple[str, str], ...] = ()
    report: str = ""
    licenses: tuple[str | None, ...] | None = None


GIF = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
INLINE = "data:image/gif;base64"
CAT = "A cat asleep on a stove"
ALT = f'alt="{CAT}"'
BY = "https://creativecommons.org/licenses/by/4.0/"
SA = "https://creativecommons.org/licenses/by-sa/4.0/"


def one(name: str, html: str, address: str, report: str = "", *, caption: str = CAT) -> Kind:
    """A page with a single picture that is kept."""
    return Kind(name, html, ((address, caption),), report=report)


def none(name: str, html: str, address: str, reason: str, report: str = "") -> Kind:
    """A page with a single picture that is passed over."""
    return Kind(name, html, (), ((address, reason),), report)


def json_ld(text: str) -> str:
    return f'<script type="application/ld+json">{text}</script>'


LAZY = [
    one("data-src before an inline stand-in", f'<img src="{GIF}" data-src="/a.jpg" {ALT}>', "a.jpg", "j0k3r/graby#56"),
    one("data-src before a spinner", f'<img src="/spinner.png" data-src="/a.jpg" {ALT}>', "a.jpg", "extractus/article-extractor#181"),
    one("data-src without src", f'<img class=lazyload data-src="/a.jpg" {ALT}>', "a.jpg", "ladjs/express-cdn#126"),
    one("data-lazy-src", f'<img src="{GIF}" data-lazy-src="/a.jpg" {ALT}>', "a.jpg", "mikf/gallery-dl#7977"),
    one("data-original", f'<img src="film.png" data-original="/a.jpg" {ALT}>', "a.jpg", "luis-almeida/filtrify#1"),
    one("data-actualsrc", f'<img src="{GIF}" data-actualsrc="/a.jpg" {ALT}>', "a.jpg", "kepano/defuddle#327"),
    one("data-backup", f'<img src="{GIF}" data-backup="/a.jpg" {ALT}>', "a.jpg", "kepano/defuddle#327"),
    one("lazy-data", f'<img src="{GIF}" lazy-data="/a.jpg" {ALT}>', "a.jpg", "bookieio/breadability#12"),
    one("an attribute that nobody knows", f'<img src="{GIF}" data-foto-quelle="/a.jpeg?v=2" {ALT}>', "a.jpeg?v=2"),
    one("data-src of low quality in src", f'<img src="/r/w780q1/a.jpeg" data-src="/a.jpeg" width=900 {ALT}>', "a.jpeg", "extractus/article-extractor#181"),
    one("a thumbnail in an attribute is not the picture", f'<img src="/a.jpg" data-thumb="/a-small.jpg" {ALT}>', "a.jpg"),
    one("a fallback in an attribute is not the picture", f'<img src="/a.jpg" data-fallback-src="/none.png" {ALT}>', "a.jpg"),
    one("data-srcset", f'<img src="{GIF}" srcset="{GIF}" data-srcset="/a-1.jpg 480w, /a-2.jpg 1200w" {ALT}>', "a-2.jpg", "ausi/respimagelint#11"),
    one("data-lazy-srcset of a plug-in", f'<img src="/a-682.jpg" data-full-url="/a-full.jpg" data-lazy-srcset="/a-682.jpg 682w, /a-1706.jpg 1706w" srcset="{GIF}" {ALT}>', "a-full.jpg", "sachinchoolur/lightGallery#1201"),
    one("data-orig-file", f'<img src="/a-300x200.jpg" data-orig-file="/a.jpg" data-medium-file="/a-300x200.jpg" data-large-file="/a-1024.jpg" {ALT}>', "a.jpg"),
    one("data-image of Squarespace", f'<img data-src="/a.jpg" data-image="/a.jpg" src="{GIF}" {ALT}>', "a.jpg", "Automattic/data-liberation-agent#64"),
    one("data-image that is a number", f'<img src="/a.jpg" data-image="77" {ALT}>', "a.jpg"),
    one("data-lazy that is a flag", f'<img src="/a.jpg" data-lazy=true {ALT}>', "a.jpg"),
    one("a template that widths fill", f'<img src="/a_300x.jpg" data-src="/a_{{width}}x.jpg" data-widths="[180, 540, 1080]" {ALT}>', "a_1080x.jpg", "aFarkas/lazysizes#561"),
    one("a template that nothing fills", f'<img src="/a.jpg" data-src="{{{{ image.src }}}}" {ALT}>', "a.jpg"),
    one("sizes in an attribute that nobody knows", f'<img src="{GIF}" data-groessen="/a-1.jpg 480w, /a-2.jpg 960w" {ALT}>', "a-2.jpg", "mozilla/readability#542"),
    one("data-srv", f'<img data-srv="/mmbiz?fmt=jpeg" {ALT}>', "mmbiz?fmt=jpeg", "karakeep-app/karakeep#2556"),
    one("native loading=lazy", f'<img loading=lazy src="/a.jpg" {ALT}>', "a.jpg"),
    one("original in the link around it", f'<a href="/a.jpg"><img src="/a-300x200.jpg" {ALT}></a>', "a.jpg", "WPChill/modula-lite#795"),
    one("link to a page", f'<a href="/story.html"><img src="/a.jpg" {ALT}></a>', "a.jpg"),
    one("link to a page that is named like a file", f'<a href="/wiki/File:Cat.jpg"><img src="/t/330px-Cat.jpg" {ALT}></a>', "t/330px-Cat.jpg", "remnoteio/remnote-issues#315"),
    one("link to a page with an encoded colon", f'<a href="/wiki/File%3ACat.jpg"><img src="/t/330px-Cat.jpg" {ALT}></a>', "t/330px-Cat.jpg", "remnoteio/remnote-issues#315"),
    Kind("link around two pictures", f'<a href="/a.jpg"><img src="/a-s.jpg" {ALT}><img src="/b.jpg" alt="A dog in the rain"></a>', (("a.jpg", CAT), ("b.jpg", "A dog in the rain"))),
    one("noscript after a stand-in", f'<img src="{GIF}" class=lazy {ALT}><noscript><img src="/a.jpg" {ALT}></noscript>', "a.jpg", "adbar/trafilatura#89"),
    one("noscript after data-src", f'<img data-original="/a.jpg" {ALT}>\n<noscript><img src="/a.jpg" {ALT}></noscript>', "a.jpg", "verlok/vanilla-lazyload#27"),
    one("noscript before data-src", f'<noscript><img src="/a.jpg" {ALT} class=bg></noscript><img data-src="/a.jpg" {ALT}>', "a.jpg", "verlok/vanilla-lazyload#195"),
    one("noscript with a larger file", f'<img data-src="/a-300.jpg" {ALT}><noscript><img src="/a-300.jpg" srcset="/a-900.jpg 900w" {ALT}></noscript>', "a-900.jpg"),
    one("noscript whose tags are escaped", f'<img src="{GIF}" {ALT}><noscript>&lt;img src="/a.jpg" alt=""&gt;</noscript>', "a.jpg", "sachinchoolur/lightGallery#1201"),
    Kind("noscript with another picture", f'<img src="/a.jpg" {ALT}><noscript><img src="/b.jpg" alt="A dog in the rain"></noscript>', (("a.jpg", CAT), ("b.jpg", "A dog in the rain"))),
    Kind("noscript with a tracker", f'<img src="{GIF}" {ALT}><noscript><img height=1 width=1 src="/tr?id=1"></noscript>', (), ((INLINE, "picture_inline"), ("tr?id=1", "picture_hidden"))),
    one("amp-img", f'<amp-img src="/a.jpg" width=900 height=600 {ALT}><noscript><img src="/a.jpg" {ALT}></noscript></amp-img>', "a.jpg", "danburzo/percollate#70"),
]  # fmt: skip

SETS = [
    one("srcset alone", f'<img srcset="/a-1.jpg 320w, /a-2.jpg 1280w, /a-3.jpg 640w" {ALT}>', "a-2.jpg", "website-scraper/node-website-scraper#405"),
    one("srcset beside a small src", f'<img src="/a-424.jpg" srcset="/a-424.jpg 424w, /a-1456.jpg 1456w" {ALT}>', "a-1456.jpg", "kepano/defuddle#177"),
    one("srcset alone, by density", f'<img srcset="photo-1x.jpg 1x, photo-2x.jpg 2x" {ALT}>', "news/photo-2x.jpg", "microsoft/markitdown#2505"),
    one("densities", f'<img src="/a.jpg" srcset="/a-15.jpg 1.5x, /a-2.jpg 2x" {ALT}>', "a-2.jpg"),
    one("a density below one", f'<img src="/a.jpg" srcset="/a-half.jpg 0.5x" {ALT}>', "a.jpg"),
    one("no descriptor", f'<img srcset="/a.jpg, /a-2.jpg 2x" {ALT}>', "a-2.jpg", "flairNLP/fundus#982"),
    one("no descriptor and no blank: one URL", f'<img srcset="/a.jpg,v2" {ALT}>', "a.jpg,v2", "arto-app/Arto#253"),
    one("commas in URLs", f'<img srcset="/w_424,c_limit/a.jpg 424w,/w_848,c_limit/a.jpg 848w" {ALT}>', "w_848,c_limit/a.jpg", "sindresorhus/srcset#5"),
    one("commas, colons and brackets in URLs", f'<img srcset="/fit-in/150x150/filters:no_upscale():origin()/a.jpg 97w,/fit-in/700x350/filters:fixed_height(100,100)/a.jpg 225w" {ALT}>', "fit-in/700x350/filters:fixed_height(100,100)/a.jpg", "ArchiveTeam/wpull#381"),
    one("a comma at the start and at the end", f'<img srcset=" , /a.jpg 1x , /b.jpg 2x,, " {ALT}>', "b.jpg", "internetarchive/heritrix3#243"),
    one("data: among the candidates", f'<img srcset="{GIF} 1w, /a.jpg 2w" {ALT}>', "a.jpg", "internetarchive/heritrix3#243"),
    one("broken descriptors", f'<img srcset="/a.jpg 900W, /b.jpg 800w 2x, /c.jpg 700.5w, /d.jpg -3x, /e.jpg 300w" {ALT}>', "e.jpg"),
    one("width and height", f'<img srcset="/a.jpg 1024w, /b.jpg 1500w 750h" {ALT}>', "b.jpg", "mlisook/plastic-image#25"),
    one("line ends and tabs", f'<img srcset="\n/a.jpg\t480w,\n/b.jpg\n960w\n" {ALT}>', "b.jpg", "ampproject/amphtml#471"),
    one("entities in URLs", f'<img srcset="/i?u=a.jpg&amp;w=640 640w, /i?u=a.jpg&amp;w=1080 1080w" {ALT}>', "i?u=a.jpg&w=1080"),
    one("picture: formats of one size", f'<picture><source srcset="/a.webp" type="image/webp"><img src="/a.jpg" {ALT}></picture>', "a.jpg"),
    one("picture: larger source", f'<picture><source srcset="/a-640.webp 640w, /a-1400.webp 1400w" type="image/webp"><img src="/a-700.jpg" {ALT}></picture>', "a-1400.webp", "AndyTheFactory/newspaper4k#654"),
    one("picture: a format that we cannot read", f'<picture><source srcset="/a-2000.jxl 2000w" type="image/jxl"><source srcset="/a-1000.avif 1000w" type="image/avif"><img src="/a.jpg" {ALT}></picture>', "a-1000.avif"),
    one("picture: img without src", f'<figure><div><picture><source srcset="/a.jpg 1x"><img {ALT}></picture></div></figure>', "a.jpg", "extractus/article-extractor#398"),
    one("picture: widest screen", f'<picture><source media="screen and (max-width: 767px)" srcset="/a.webp 1x"><source media="screen and (min-width: 768px) and (max-width: 992px)" srcset="/b.webp 1x"><source media="screen and (min-width: 993px)" srcset="/c.webp 1x"><img src="{GIF}" {ALT}></picture>', "c.webp", "adbar/trafilatura#194"),
    one("picture: cropped for narrow screens", f'<picture><source media="(max-width: 600px)" srcset="/crop.jpg 600w"><img src="/whole.jpg" {ALT}></picture>', "whole.jpg"),
    one("picture: for the dark", f'<picture><source media="(prefers-color-scheme: dark)" srcset="/dark.png"><img src="/light.png" {ALT}></picture>', "light.png"),
    one("picture: lazy sources", f'<picture><source data-srcset="/a-900.jpg 900w"><img src="{GIF}" {ALT}></picture>', "a-900.jpg"),
    Kind("picture: source is for its own image", f'<picture><source srcset="/a-2.jpg 900w"><img src="/a.jpg" {ALT}></picture><img src="/b.jpg" alt="A dog in the rain">', (("a-2.jpg", CAT), ("b.jpg", "A dog in the rain"))),
]  # fmt: skip

PASSED = [
    none("decoration: empty alt", '<img src="/rule.png" alt="">', "rule.png", "picture_uncaptioned"),
    none("decoration: empty alt with a title", '<img src="/a.png" alt="" title="Click to enlarge">', "a.png", "picture_uncaptioned"),
    none("no alt at all", '<img src="/a.png">', "a.png", "picture_uncaptioned"),
    none("spinner alone", '<img src="/img/spinner.png" alt="A spinner stands for picture 0">', "img/spinner.png", "picture_placeholder", "extractus/article-extractor#181"),
    none("blank.gif", f'<img src="/blank.gif" {ALT}>', "blank.gif", "picture_placeholder"),
    none("1x1", f'<img src="/img/1x1-transparent.png" {ALT}>', "img/1x1-transparent.png", "picture_placeholder", "verlok/vanilla-lazyload#214"),
    none("placeholder.svg", f'<img src="/image-placeholder.svg" {ALT}>', "image-placeholder.svg", "picture_placeholder"),
    none("inline", f'<img src="{GIF}" {ALT}>', INLINE, "picture_inline"),
    none("drawing", f'<img src="/logo.svg" {ALT}>', "logo.svg", "picture_svg"),
    none("picture within a drawing", '<svg><title>T</title><image xlink:href="/a.jpg" width=900 /></svg>', "a.jpg", "picture_svg"),
    none("tracker", '<img src="/t?e=1" width="1" height="1" alt="page view counted">', "t?e=1", "picture_hidden", "snowplow/snowplow#1259"),
    none("poster of a video", '<video poster="/still.jpg" src="/v.mp4"></video>', "still.jpg", "picture_uncaptioned"),
    one("a pixel that a script replaces", f'<img src="/1x1.gif" width=1 height=1 data-src="/a.jpg" {ALT}>', "a.jpg"),
    one("a photograph that is named like a stand-in", '<img src="/loading-dock.jpg" alt="A loading dock in the rain">', "loading-dock.jpg", caption="A loading dock in the rain"),
    one("pixel art", '<img src="/pixel-art-castle.png" alt="A castle of pixels">', "pixel-art-castle.png", caption="A castle of pixels"),
    Kind("repeated decoration is one row", '<img src="/dot.png">' * 50 + f'<img src="/a.jpg" {ALT}>', (("a.jpg", CAT),), (("dot.png", "picture_uncaptioned"),)),
    Kind("backgrounds, buttons, frames and templates", f'<div style="background-image:url(/bg.jpg)"></div><input type=image src="/go.png" alt="Send the form"><iframe srcdoc="<img src=/x.jpg alt=inner>"><img src="/y.jpg" alt="In a frame"></iframe><template><img src="/t.jpg" alt="In a template"></template><img src="/a.jpg" {ALT}>', (("a.jpg", CAT),)),
    Kind("comments and scripts", f'<!-- <img src="/x.jpg" alt="In a comment"> --><script>"<img src=/y.jpg alt=script>"</script><img src="/a.jpg" {ALT}>', (("a.jpg", CAT),)),
]  # fmt: skip

CAPTIONS = [
    one("figcaption before alt", f'<figure><img src="/a.jpg" alt="stove"><figcaption>{CAT}</figcaption></figure>', "a.jpg"),
    one("figcaption in a page of its own markup", f'<figure class=float><span class=image-wrapper><img src="/a.jpg" alt=""></span><figcaption><p>{CAT}</p></figcaption></figure>', "a.jpg", "mozilla/readability#743"),
    one("figcaption above", f'<figure><figcaption>{CAT}</figcaption><img src="/a.jpg"></figure>', "a.jpg"),
    one("figcaption that is not closed", f'<figure><img src="/a.jpg"><figcaption>{CAT}</figure><p>And so on.', "a.jpg"),
    one("br in a figcaption", '<figure><img src="/a.jpg"><figcaption>A cat<br>asleep on <b>a</b> stove</figcaption></figure>', "a.jpg"),
    Kind("one caption, two pictures", f'<figure><img src="/a.jpg"><figcaption>{CAT}</figcaption><img src="/b.jpg"></figure>', (("a.jpg", CAT), ("b.jpg", CAT))),
    Kind("two captions, two pictures", '<figure><img src="/a.jpg"><figcaption>The first of two</figcaption><img src="/b.jpg"><figcaption>The second of two</figcaption></figure>', (("a.jpg", "The first of two"), ("b.jpg", "The second of two"))),
    Kind("an icon in the caption", f'<figure><img src="/a.jpg"><figcaption><img src="/i.png" alt="">{CAT}</figcaption></figure>', (("a.jpg", CAT),), (("i.png", "picture_uncaptioned"),)),
    one("caption of the classic WordPress editor", f'<div class="wp-caption"><img aria-describedby="caption-attachment-7" src="/a.jpg" alt="stove"><p id="caption-attachment-7" class="wp-caption-text">{CAT}</p></div>', "a.jpg"),
    one("aria-label", f'<img src="/a.jpg" aria-label="{CAT}">', "a.jpg"),
    one("aria-labelledby", f'<p id=c>{CAT}</p><img src="/a.jpg" aria-labelledby="c">', "a.jpg"),
    one("aria-labelledby after it", f'<img src="/a.jpg" aria-labelledby="none c"><p id=c>{CAT}</p>', "a.jpg"),
    one("title where there is no alt", f'<img src="/a.jpg" title="{CAT}">', "a.jpg"),
    one("alt before title", f'<img src="/a.jpg" title="Click to enlarge" {ALT}>', "a.jpg"),
    one("alt that is a file name, and a title", f'<img src="/a.jpg" alt="IMG_2847_20240512.jpg" title="{CAT}">', "a.jpg", "ArkShark11/GardenTwin#99"),
    one("alt that is a file name, and a figcaption", f'<figure><img src="/a.jpg" alt="DSC00227"><figcaption>{CAT}</figcaption></figure>', "a.jpg", "ArkShark11/GardenTwin#99"),
    *(none(f"alt is {said}", f'<img src="/a.jpg" alt="{said}">', "a.jpg", "picture_uncaptioned") for said in ("null", "None", "NaN", "undefined", "N/A", " ")),
    one("alt is null, title is not", f'<img src="/a.jpg" alt="null" title="{CAT}">', "a.jpg"),
]  # fmt: skip

METADATA = [
    one("og:image with alt", f'<meta property="og:image" content="/a.jpg"><meta property="og:image:alt" content="{CAT}">', "a.jpg", "jfroelich/rss-reader#365"),
    none("og:image without alt", f'<meta property="og:title" content="{CAT}"><meta property="og:image" content="/a.jpg">', "a.jpg", "picture_uncaptioned"),
    Kind("two og:images", '<meta property="og:image" content="/a.jpg"><meta property="og:image:alt" content="The first of two"><meta property="og:image:width" content=9><meta property="og:image" content="/b.jpg"><meta property="og:image:alt" content="The second of two">', (("a.jpg", "The first of two"), ("b.jpg", "The second of two"))),
    one("og:image says its URL twice", f'<meta property="og:image" content="/a.jpg"><meta property="og:image:secure_url" content="https://pics.example/a.jpg"><meta property="og:image:alt" content="{CAT}">', "a.jpg"),
    one("og:image:url alone", f'<meta property="og:image:url" content="/a.jpg"><meta property="og:image:alt" content="{CAT}">', "a.jpg", "AndyTheFactory/newspaper4k#113"),
    none("og:image that is the site's logo", '<meta property="og:image" content="/theme/logo-blue.svg"><meta property="og:image:alt" content="The Daily">', "theme/logo-blue.svg", "picture_svg", "readthedocs/ethicalads.io#292"),
    one("twitter:image:alt for og:image", f'<meta property="og:image" content="/a.jpg"><meta name="twitter:image:alt" content="{CAT}">', "a.jpg"),
    one("twitter:image with alt", f'<meta name="twitter:image" content="/a.jpg"><meta name="twitter:image:alt" content="{CAT}">', "a.jpg"),
    one("og:image that is on the page", f'<meta property="og:image" content="/a.jpg"><img src="/a.jpg" {ALT}>', "a.jpg"),
    one("og:image that is a candidate on the page", f'<meta property="og:image" content="/a-600.jpg"><img src="/a-600.jpg" srcset="/a-1200.jpg 1200w" {ALT}>', "a-1200.jpg"),
    one("og:image:alt for a picture without alt", f'<meta property="og:image" content="/a.jpg"><meta property="og:image:alt" content="{CAT}"><img src="/a.jpg">', "a.jpg"),
    one("JSON-LD ImageObject", json_ld(f'{{"@type":"ImageObject","contentUrl":"/a.jpg","caption":"{CAT}"}}'), "a.jpg", "Yoast/wordpress-seo#12669"),
    one("JSON-LD description", json_ld(f'{{"@type":"http://schema.org/ImageObject","url":"/a.jpg","name":"a.jpg","description":"<p>{CAT}</p>"}}'), "a.jpg", "Yoast/wordpress-seo#12539"),
    one("JSON-LD in a graph", json_ld(f'{{"@graph":[{{"@type":"WebPage"}},{{"@type":["ImageObject"],"url":["/a.jpg"],"caption":{{"@value":"{CAT}"}}}}]}}'), "a.jpg", "Yoast/wordpress-seo#12670"),
    one("JSON-LD Article.image as an object", json_ld(f'{{"@type":"NewsArticle","headline":"H","image":[{{"@type":"ImageObject","url":"/a.jpg","caption":"{CAT}"}}]}}'), "a.jpg", "michaelhelmick/lassie#44"),
    none("JSON-LD Article.image as text", json_ld('{"@type":"NewsArticle","headline":"A headline of a page","image":"/a.jpg"}'), "a.jpg", "picture_uncaptioned", "michaelhelmick/lassie#41"),
    one("JSON-LD in a comment", json_ld(f'<!-- {{"@type":"ImageObject","url":"/a.jpg","caption":"{CAT}"}} -->'), "a.jpg", "w3c/json-ld-syntax#96"),
    one("JSON-LD in CDATA, with a semicolon", json_ld(f'//<![CDATA[\n{{"@type":"ImageObject","url":"/a.jpg","caption":"{CAT}"}};\n//]]>'), "a.jpg", "indix/web-auto-extractor#19"),
    one("JSON-LD with line ends in strings", json_ld('{"@type":"ImageObject","url":"/a.jpg","caption":"A cat asleep\n\ton a stove"}'), "a.jpg", "scrapinghub/extruct#84"),
    one("JSON-LD with entities", json_ld(f'{{&quot;@type&quot;:&quot;ImageObject&quot;,&quot;url&quot;:&quot;/a.jpg&quot;,&quot;caption&quot;:&quot;{CAT}&quot;}}'), "a.jpg", "w3c/json-ld-syntax#100"),
    one("JSON-LD with a trailing comma and junk", json_ld(f'{{"@type":"ImageObject","url":"/a.jpg","caption":"{CAT}",}} window.x = 1'), "a.jpg"),
    Kind("JSON-LD: two values", json_ld('{"@type":"ImageObject","url":"/a.jpg","caption":"The first of two"}\n{"@type":"ImageObject","url":"/b.jpg","caption":"The second of two"}'), (("a.jpg", "The first of two"), ("b.jpg", "The second of two"))),
    Kind("JSON-LD: a logo has no caption, a thumbnail is none", json_ld(f'{{"publisher":{{"logo":{{"@type":"ImageObject","url":"/logo.png","caption":"The Daily"}}}},"thumbnailUrl":"/t.jpg","image":{{"@type":"ImageObject","url":"/a.jpg","caption":"{CAT}"}}}}'), (("a.jpg", CAT),), (("logo.png", "picture_uncaptioned"),)),
    one("JSON-LD for a picture on the page", json_ld(f'{{"@type":"ImageObject","url":"http://pics.example/a.jpg#x","caption":"{CAT}"}}') + '<img src="/a.jpg" alt="">', "a.jpg"),
    one("microdata", f'<div itemscope itemtype="https://schema.org/ImageObject"><img itemprop=contentUrl src="/a.jpg"><span itemprop=caption>{CAT}</span></div>', "a.jpg"),
    one("microdata: two properties at once", f'<div itemscope itemtype="https://schema.org/ImageObject"><img itemprop="image contentUrl" src="/a.jpg"><p itemprop="description caption">{CAT}<p>More</div>', "a.jpg"),
    one("microdata: contentUrl in a link", f'<div itemscope itemtype="https://schema.org/ImageObject"><link itemprop=contentUrl href="/a.jpg"><img itemprop=thumbnail src="/t.jpg"><meta itemprop=caption content="{CAT}"></div>', "a.jpg"),
    one("microdata within a figure", f'<figure><span itemprop=image itemscope itemtype="http://schema.org/ImageObject"><img src="/a.jpg"></span><figcaption>{CAT}</figcaption></figure>', "a.jpg"),
]  # fmt: skip

HTML = [
    one("upper case, no quotes", f'<IMG SRC=/a.jpg ALT="{CAT}">', "a.jpg"),
    one("the first of two attributes", f'<img src="/a.jpg" src="/b.jpg" {ALT} alt="other">', "a.jpg"),
    one("entities and line ends in a URL", f'<img src=" /a\n.jpg?x=1&amp;y=2 " {ALT}>', "a.jpg?x=1&y=2"),
    one("a base", f'<base href="/html/v2/"><img src="x1.png" {ALT}>', "html/v2/x1.png", "kepano/defuddle#179"),
    one("a base that is relative", f'<base href="sub/"><img src="x1.png" {ALT}>', "news/sub/x1.png", "Norconex/crawler#312"),
    one("a base that is no URL", f'<base href="javascript:x"><img src="x1.png" {ALT}>', "news/x1.png", "dondai44423/donsetch#269"),
    one("tags that are not closed", f'<div><p><a href=x><figure><img src="/a.jpg"><figcaption><b>{CAT}', "a.jpg"),
    one("tags that close nothing", f'</figure></div></figcaption><img src="/a.jpg" {ALT}></p>', "a.jpg"),
    one("<image> is <img>", f'<image src="/a.jpg" {ALT}>', "a.jpg"),
    one("a drawing that is not closed", f'<svg><path d="M0"><p><img src="/a.jpg" {ALT}>', "a.jpg"),
    one("object with a picture inside", f'<object data="/a.svg" type="text/html"><img src="/a.png" {ALT}></object>', "a.png"),
]  # fmt: skip

TERMS = [
    Kind("rel=license of the page", f'<a rel="license noopener" href="{BY}">CC</a><img src="/a.jpg" {ALT}>', (("a.jpg", CAT),), licenses=(BY,)),
    Kind("rel=license of one figure", f'<figure><img src="/a.jpg" {ALT}><a rel=license href="{BY}">CC</a></figure><img src="/b.jpg" alt="A dog in the rain">', (("a.jpg", CAT), ("b.jpg", "A dog in the rain")), licenses=(BY, None)),
    Kind("a figure's before the page's", f'<link rel=license href="{SA}"><figure><img src="/a.jpg" {ALT}><a rel=license href="{BY}">CC</a></figure><img src="/b.jpg" alt="A dog in the rain">', (("a.jpg", CAT), ("b.jpg", "A dog in the rain")), licenses=(BY, SA)),
    Kind("two licences on one page are nobody's", f'<a rel=license href="{BY}">1</a><a rel=license href="{SA}">2</a><img src="/a.jpg" {ALT}>', (("a.jpg", CAT),), licenses=(None,)),
    Kind("JSON-LD licence of a picture on the page", json_ld(f'{{"@type":"ImageObject","contentUrl":"/a.jpg","license":"{BY}","acquireLicensePage":"/buy"}}') + f'<img src="/a.jpg" {ALT}><img src="/b.jpg" alt="A dog in the rain">', (("a.jpg", CAT), ("b.jpg", "A dog in the rain")), licenses=(BY, None)),
    Kind("microdata licence", f'<div itemscope itemtype="https://schema.org/ImageObject"><img src="/a.jpg" {ALT}><a itemprop=license href="{BY}">CC</a></div><img src="/b.jpg" alt="A dog in the rain">', (("a.jpg", CAT), ("b.jpg", "A dog in the rain")), licenses=(BY, None)),
]  # fmt: skip

# Captions in the marks of systems that do not write figures.
CLASSED = [
    one("WordPress's caption", f'<div class="wp-caption alignright"><a href="/w/a.jpg"><img src="/w/a-300x200.jpg" alt=""/></a><p class="wp-caption-text">{CAT}</p></div>', "w/a.jpg"),
    one("WordPress's gallery", f'<dl class="gallery-item"><dt><a href="/w/a.jpg"><img src="/w/a-150x150.jpg" alt=""/></a></dt><dd class="wp-caption-text gallery-caption">{CAT}</dd></dl>', "w/a.jpg"),
    one("MediaWiki's thumb", f'<div class="thumb"><div class="thumbinner"><img alt="" src="/a.jpg"><div class="thumbcaption"><div class="magnify"><a href="/f" title="Enlarge"></a></div>{CAT}</div></div></div>', "a.jpg"),
    one("MediaWiki's gallery", f'<ul class="gallery"><li class="gallerybox"><div class="thumb"><img alt="" src="/a.jpg"></div><div class="gallerytext">{CAT}</div></li></ul>', "a.jpg"),
    one("Blogger's table", f'<table class="tr-caption-container"><tr><td><a href="http://pics.example/s1600/a.jpg"><img alt="" src="/s320/a.jpg"></a></td></tr><tr><td class="tr-caption">{CAT}</td></tr></table>', "s1600/a.jpg"),
    one("marks of references", '<figure><img src="/a.jpg"><figcaption>A cat<sup><a href="#1">[1]</a></sup> asleep<sup>[b]</sup><sup>[citation needed]</sup> [2020]</figcaption></figure>', "a.jpg", caption="A cat asleep [2020]"),
    Kind("a caption without its figure is none's", f'<p class="wp-caption-text">A dog</p><img src="/a.jpg" {ALT}>', (("a.jpg", CAT),)),
    Kind("a figure ends with its element", f'<div class="wp-caption"><div><img src="/a.jpg" alt=""></div><p class="wp-caption-text">{CAT}</p></div><img src="/b.jpg" alt="A dog in the rain">', (("a.jpg", CAT), ("b.jpg", "A dog in the rain"))),
]  # fmt: skip

KINDS = [*LAZY, *SETS, *PASSED, *CAPTIONS, *CLASSED, *METADATA, *HTML, *TERMS]
