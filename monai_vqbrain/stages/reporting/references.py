"""References that the methods of a report cite: a numbered list and BibTeX entries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

VENUES = {"article": "journal", "misc": "howpublished"}  # type of an entry -> field of the venue


@dataclass(frozen=True)
class Reference:
    """One publication.

    Args:
        authors: as in BibTeX, `Fonov, V and Evans, A C`.
        title: in sentence case.
        venue: journal, proceedings or preprint server.
        year: of publication.
        volume: with the number of the issue in brackets; empty if there is none.
        pages: first and last, or the number of the article; empty if there is none.
        doi: without a resolver's address; empty if there is none.
        kind: the type of the BibTeX entry.
    """

    authors: str
    title: str
    venue: str
    year: int
    volume: str = ""
    pages: str = ""
    doi: str = ""
    kind: str = "inproceedings"

    @property
    def text(self) -> str:
        """The entry of a reference list."""
        authors = ", ".join(_initials_last(name) for name in self.authors.split(" and "))
        where = " ".join(
            filter(None, (self.venue, ":".join(filter(None, (self.volume, self.pages)))))
        )
        doi = f" doi:{self.doi}." if self.doi else ""
        return f"{authors}. {self.title}. {where}, {self.year}.{doi}"

    def bibtex(self, key: str) -> str:
        """The BibTeX entry."""
        volume, _, number = self.volume.removesuffix(")").partition("(")
        fields = {
            "author": self.authors,
            "title": f"{{{self.title}}}",
            VENUES.get(self.kind, "booktitle"): self.venue,
            "year": str(self.year),
            "volume": volume,
            "number": number,
            "pages": self.pages.replace("-", "--"),
            "doi": self.doi,
        }
        lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
        return f"@{self.kind}{{{key},\n" + ",\n".join(lines) + "\n}"


def _initials_last(name: str) -> str:
    """`Fonov, V S` as `Fonov VS`; BibTeX's `others` as `et al`."""
    last, _, first = name.partition(", ")
    return "et al" if last == "others" else f"{last} {first.replace(' ', '')}"


NEURIPS = "Advances in Neural Information Processing Systems"
REFERENCES = {
    "vqvae": Reference(
        "van den Oord, A and Vinyals, O and Kavukcuoglu, K",
        "Neural discrete representation learning", NEURIPS, 2017, "30",
    ),
    "fsq": Reference(
        "Mentzer, F and Minnen, D and Agustsson, E and Tschannen, M",
        "Finite scalar quantization: VQ-VAE made simple",
        "International Conference on Learning Representations", 2024,
    ),
    "pixelcnn": Reference(
        "van den Oord, A and Kalchbrenner, N and Espeholt, L and Kavukcuoglu, K and Vinyals, O and "
        "Graves, A",
        "Conditional image generation with PixelCNN decoders", NEURIPS, 2016, "29",
    ),
    "monai": Reference(
        "Cardoso, M J and Li, W and Brown, R and Ma, N and Kerfoot, E and Wang, Y and others",
        "MONAI: an open-source framework for deep learning in healthcare",
        "arXiv preprint arXiv:2211.02701", 2022, doi="10.48550/arXiv.2211.02701", kind="article",
    ),
    "pytorch": Reference(
        "Paszke, A and Gross, S and Massa, F and Lerer, A and Bradbury, J and Chanan, G and others",
        "PyTorch: an imperative style, high-performance deep learning library", NEURIPS, 2019,
        "32",
    ),
    "adam": Reference(
        "Kingma, D P and Ba, J", "Adam: a method for stochastic optimization",
        "International Conference on Learning Representations", 2015,
    ),
    "adamw": Reference(
        "Loshchilov, I and Hutter, F", "Decoupled weight decay regularization",
        "International Conference on Learning Representations", 2019,
    ),
    "muon": Reference(
        "Jordan, K and Jin, Y and Boza, V and You, J and Cesista, F and Newhouse, L and "
        "Bernstein, J",
        "Muon: an optimizer for hidden layers in neural networks",
        "https://kellerjordan.github.io/posts/muon/", 2024, kind="misc",
    ),
    "nibabel": Reference(
        "Brett, M and Markiewicz, C J and Hanke, M and Côté, M-A and Cipollini, B and "
        "McCarthy, P and others",
        "nipy/nibabel", "Zenodo", 2024, doi="10.5281/zenodo.591597", kind="misc",
    ),
    "nilearn": Reference(
        "Abraham, A and Pedregosa, F and Eickenberg, M and Gervais, P and Mueller, A and "
        "Kossaifi, J and Gramfort, A and Thirion, B and Varoquaux, G",
        "Machine learning for neuroimaging with scikit-learn", "Frontiers in Neuroinformatics",
        2014, "8", "14", "10.3389/fninf.2014.00014", "article",
    ),
    "dcm2niix": Reference(
        "Li, X and Morgan, P S and Ashburner, J and Smith, J and Rorden, C",
        "The first step for neuroimaging data analysis: DICOM to NIfTI conversion",
        "Journal of Neuroscience Methods", 2016, "264", "47-56",
        "10.1016/j.jneumeth.2016.03.001", "article",
    ),
    "mni": Reference(
        "Fonov, V and Evans, A C and Botteron, K and Almli, C R and McKinstry, R C and "
        "Collins, D L",
        "Unbiased average age-appropriate atlases for pediatric studies", "NeuroImage", 2011,
        "54(1)", "313-327", "10.1016/j.neuroimage.2010.07.033", "article",
    ),
    "n4": Reference(
        "Tustison, N J and Avants, B B and Cook, P A and Zheng, Y and Egan, A and "
        "Yushkevich, P A and Gee, J C",
        "N4ITK: improved N3 bias correction", "IEEE Transactions on Medical Imaging", 2010,
        "29(6)", "1310-1320", "10.1109/TMI.2010.2046908", "article",
    ),
    "deepbet": Reference(
        "Fisch, L and Zumdick, S and Barkhau, C and Emden, D and Ernsting, J and Leenings, R and "
        "others",
        "deepbet: fast brain extraction of T1-weighted MRI using convolutional neural networks",
        "Computers in Biology and Medicine", 2024, "179", "108845",
        "10.1016/j.compbiomed.2024.108845", "article",
    ),
    "simpleitk": Reference(
        "Lowekamp, B C and Chen, D T and Ibáñez, L and Blezek, D",
        "The design of SimpleITK", "Frontiers in Neuroinformatics", 2013, "7", "45",
        "10.3389/fninf.2013.00045", "article",
    ),
    "ssim": Reference(
        "Wang, Z and Bovik, A C and Sheikh, H R and Simoncelli, E P",
        "Image quality assessment: from error visibility to structural similarity",
        "IEEE Transactions on Image Processing", 2004, "13(4)", "600-612",
        "10.1109/TIP.2003.819861", "article",
    ),
    "ms_ssim": Reference(
        "Wang, Z and Simoncelli, E P and Bovik, A C",
        "Multiscale structural similarity for image quality assessment",
        "Asilomar Conference on Signals, Systems and Computers", 2003,
        doi="10.1109/ACSSC.2003.1292216",
    ),
    "appearance": Reference(
        "Cootes, T F and Edwards, G J and Taylor, C J",
        "Active appearance models",
        "European Conference on Computer Vision", 1998, pages="484-498",
        doi="10.1007/BFb0054760",
    ),
    "tangent": Reference(
        "Simard, P Y and LeCun, Y A and Denker, J S and Victorri, B",
        "Transformation invariance in pattern recognition: tangent distance and tangent "
        "propagation",
        "Neural Networks: Tricks of the Trade", 1998, pages="239-274",
        doi="10.1007/3-540-49430-8_13",
    ),
    "c2st": Reference(
        "Lopez-Paz, D and Oquab, M",
        "Revisiting classifier two-sample tests",
        "International Conference on Learning Representations", 2017,
    ),
    "kid": Reference(
        "Bińkowski, M and Sutherland, D J and Arbel, M and Gretton, A",
        "Demystifying MMD GANs", "International Conference on Learning Representations", 2018,
    ),
    "coverage": Reference(
        "Naeem, M F and Oh, S J and Uh, Y and Choi, Y and Yoo, J",
        "Reliable fidelity and diversity metrics for generative models",
        "International Conference on Machine Learning, PMLR", 2020, "119", "7176-7185",
    ),
    "recall": Reference(
        "Kynkäänniemi, T and Karras, T and Laine, S and Lehtinen, J and Aila, T",
        "Improved precision and recall metric for assessing generative models", NEURIPS, 2019,
        "32",
    ),
    "membership": Reference(
        "Kowalczuk, A and Dubiński, J and Boenisch, F and Dziedzic, A",
        "Privacy attacks on image autoregressive models",
        "International Conference on Machine Learning", 2025,
    ),
}  # fmt: skip

CITED = re.compile(r"\[@(\w+)\]")


@dataclass(frozen=True)
class CitedText:
    """Paragraphs with numbers in place of citation keys.

    Args:
        paragraphs: heading -> text.
        keys: of `REFERENCES`, in the order of their numbers.
    """

    paragraphs: dict[str, str]
    keys: tuple[str, ...]

    @property
    def references(self) -> list[str]:
        """The reference list, in the order of the numbers."""
        return [REFERENCES[key].text for key in self.keys]

    @property
    def bibtex(self) -> str:
        """The same as BibTeX entries."""
        return "\n\n".join(REFERENCES[key].bibtex(key) for key in self.keys)


def number_citations(paragraphs: Mapping[str, str]) -> CitedText:
    """Replace `[@key]` by numbers in the order of the first citation.

    Args:
        paragraphs: heading -> text; those without text are left out.

    Raises:
        KeyError: for a key that has no reference.

    Example:
        >>> number_citations({"": "KID [@kid] and SSIM [@ssim], KID [@kid]"}).paragraphs[""]
        'KID [1] and SSIM [2], KID [1]'
    """
    found = [key for text in paragraphs.values() for key in CITED.findall(text)]
    keys = tuple(dict.fromkeys(found))
    unknown = [key for key in keys if key not in REFERENCES]
    if unknown:
        raise KeyError(f"no reference has the key {unknown[0]!r}: add it to REFERENCES")
    numbered = {
        heading: CITED.sub(lambda match: f"[{keys.index(match[1]) + 1}]", text)
        for heading, text in paragraphs.items()
        if text
    }
    return CitedText(numbered, keys)
