"""Re-Detect and Link (paper, section 3.1): every frame of a tracklet is re-cropped around the person it follows.

    tracklet                the noisy crops of one pedestrian, as a reader yields them
    detectors               find the persons in every padded crop
    linkers, linking        compare their features with the moving average f and choose one per frame
    alignment               cuts the chosen box, resizes it with its aspect ratio, shifts it and pads: image and mask
    packing, ray_engine     turn tracklets into records, in threads or in the processes of a Ray cluster
    preview                 draws all of this as a contact sheet
    extractor               runs it for a `cfaan_jax.FeatureExtractor`: the class `RedetectLink`
"""

__all__ = ["RedetectLink"]


def __getattr__(name: str):
    """Imports `RedetectLink` at its first use: OpenCV and the detectors take a second."""
    if name == "RedetectLink":
        from data_prep.redetect_link.extractor import RedetectLink
        return RedetectLink
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
