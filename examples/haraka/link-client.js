// Here `bobbin/client` is that of this checkout, once it is built; anywhere else it is `npm install bobbin`.
const { rmSync, symlinkSync } = require('node:fs')
const { resolve } = require('node:path')

const link = resolve(__dirname, 'node_modules/bobbin')
rmSync(link, { recursive: true, force: true })
symlinkSync(resolve(__dirname, '../..'), link, 'junction')
