"""What runs the programs: jax's settings, the mesh of devices, compiled programs and where they are kept.

`settings` come before jax starts, `mesh` lays out devices, `programs` compiles a function over a mesh or
takes the program from the disk, `fingerprint` tells functions apart by what they hold in memory, and
`processes` divides what no program does over the cores.
"""

from tftjax import face

__all__, __getattr__ = face(
    __name__,
    fingerprint="",
    mesh="MESH_AXIS device_mesh mesh_for_epoch",
    processes="",
    programs="OnMesh remembered",
    settings="available_cores compiler_options configure with_devices",
)
