-- For wrk: PICTURE=cat.jpg [MULTIPART=1] wrk -t1 -c32 -d3s -s post.lua http://127.0.0.1:8000/classify
local file = io.open(os.getenv("PICTURE"), "rb")
local picture = file:read("*a")
file:close()
wrk.method = "POST"
if os.getenv("MULTIPART") then
  local boundary = "5f3a9e71c"
  wrk.headers["Content-Type"] = "multipart/form-data; boundary=" .. boundary
  wrk.body = "--" .. boundary .. "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jpg\"\r\n"
    .. "Content-Type: image/jpeg\r\n\r\n" .. picture .. "\r\n--" .. boundary .. "--\r\n"
else
  wrk.headers["Content-Type"] = "image/jpeg"
  wrk.body = picture
end
