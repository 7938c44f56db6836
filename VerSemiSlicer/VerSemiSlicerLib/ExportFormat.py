"""The forms in which segments leave Slicer."""

import enum


class ExportFormat(enum.Enum):
    """The values are what follows the name of the files."""

    SEGMENTATION = ".seg.nrrd"
    NIFTI = ".nii.gz"
    STL = ".stl"
    OBJ = ".obj"
    DICOM = ".dcm"

    def label(self) -> str:
        return {
            ExportFormat.SEGMENTATION: "Slicer segmentation (.seg.nrrd)",
            ExportFormat.NIFTI: "NIfTI label map (.nii.gz)",
            ExportFormat.STL: "STL surfaces (.stl)",
            ExportFormat.OBJ: "OBJ surfaces (.obj)",
            ExportFormat.DICOM: "DICOM segmentation (.dcm)",
        }[self]

    @property
    def isSurface(self) -> bool:
        return self in (ExportFormat.STL, ExportFormat.OBJ)
