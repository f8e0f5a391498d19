"""Forms of transforms by name, with what each is."""

FORMS = {
    "itk": "ITK, ANTs: .tfm, .txt, .mat (affine), .h5 (composite), .nii.gz (field)",
    "greedy": "greedy, Convert3D: .mat (affine, RAS mm), .nii.gz (field, as ITK's)",
    "fsl": "FSL: .mat (FLIRT), .nii.gz (FNIRT, relative)",
    "freesurfer": "FreeSurfer: .lta; only read",
    "spm": "SPM: y_*.nii",
    "torch": "PyTorch: .npy for grid_sample with align_corners=True",
    "challenge": "Learn2Reg today: .nii.gz, in voxels",
    "challenge-2021": "Learn2Reg 2021: disp_FFFF_MMMM.npz, half the samples, float16: inexact",
}
