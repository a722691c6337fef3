"""How the other systems are trained and tested in their own publications: what differs from CF-AAN's recipe in mars.py.

As their released code runs them (guxinqian/AP3D, blue-blue272/VideoReID-TCLNet, ppriyank/Video-Person-Re-ID-
Fantastic-Techniques-and-Where-to-Find-Them), with these exceptions. Frames of another size are resized bilinearly, not
bicubically, and all scales of the necks start at 1, not near it. FT-WFT mirrors whole clips, not single frames; its
random shift of frames and its second random erasing are left out; and its test takes all clips of a long tracklet, not
the first 41. None of these recipes has been run to its end here.

P3D-C is trained as AP3D, in whose code it comes.
"""

_AP3D = dict(
    data=dict(clip_length=4, sampling="strided", epoch_of="tracklets"),
    augment=dict(erasing=0.0),
    loss=dict(margin=0.3, triplet_distance="cosine"),
    optim=dict(learning_rate=3e-4, weight_decay=5e-4, milestones=(60, 120, 180)),
    train=dict(epochs=240, evaluate_clips="test_0"),
    eval=dict(clips="dense_cut", protocols=("mars_with_queries", "mars", "mars_matlab", "cfaan_released",
                                            "mars_revised")),
)

RECIPES = {
    "p3d": _AP3D,
    "ap3d": _AP3D,
    "ap3d_nl": _AP3D,
    "tclnet": _AP3D | dict(
        loss=dict(margin=0.4, triplet_distance="cosine"),  # of each branch of the head
        optim=dict(learning_rate=3e-4, weight_decay=5e-4, milestones=(40, 80, 120)),
        train=dict(epochs=150, evaluate_clips="test_0"),
        eval=dict(_AP3D["eval"], clips="dense"),
    ),
    # The released configuration 59 for MARS, with centres and attention loss. It gives the triplet loss no weight.
    "ftwft": dict(
        data=dict(clip_length=4, image_size=(224, 112), sampling="consecutive"),
        loss=dict(triplet_weight=0.0, margin=4.4132437486402204e-05, triplet_distance="cosine", smoothing=0.1,
                  centre_weight=5e-4, osm_caa_weight=1.0, osm_caa_margin=2.8436551583293728,
                  osm_caa_negative_share=0.5873389293193368, osm_caa_sigma=0.9047814732165316, attention_weight=1.0),
        optim=dict(learning_rate=3.5e-4, weight_decay=5e-4, milestones=(40, 70), gamma=0.3282654557691594,
                   warmup_epochs=10),
        train=dict(epochs=400, evaluate_clips="dense"),
        eval=dict(clips="dense", distance="euclidean"),
    ),
}
